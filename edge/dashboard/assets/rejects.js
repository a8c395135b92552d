// The last parts that failed, as thumbnails that open large.

import { WORD, at, clock, draw, make, score } from "./text.js";

const SHOWN = 12;
const CLOSER = 2.2;

export class Rejects {
  constructor(stage) {
    this.stage = stage;
    this.list = [];
    this.index = 0;
    this.dialog = at("large");
    at("large-close").addEventListener("click", () => this.dialog.close());
    at("large-newer").addEventListener("click", () => this.#open(this.index - 1));
    at("large-older").addEventListener("click", () => this.#open(this.index + 1));
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.#open(this.index - 1);
      if (event.key === "ArrowRight") this.#open(this.index + 1);
    });
    this.show();
  }

  set(verdicts) {
    this.list = verdicts.slice(0, SHOWN);
    this.show();
  }

  add(verdict) {
    if (this.list.some((one) => one.result_id === verdict.result_id)) return;
    this.list = [verdict, ...this.list].slice(0, SHOWN);
    if (this.dialog.open) this.index += 1;
    this.show();
  }

  /** The verdict comes a moment before its picture. */
  pictureCame(resultId) {
    const image = at("rejects").querySelector(`img[data-result="${CSS.escape(resultId)}"]`);
    if (image && !image.hasAttribute("src")) image.src = `/blob/${resultId}/rgb`;
  }

  show() {
    const now = new Map([...at("rejects").children].map((item) => [item.dataset.result, item]));
    at("rejects").replaceChildren(...this.list.map((verdict, i) => now.get(verdict.result_id) ?? this.#item(verdict, i)));
    at("rejects-note").textContent = this.list.length ? "newest first" : "No part has failed yet.";
  }

  #item(verdict) {
    const boxes = draw("svg", { class: "boxes", "aria-hidden": "true", preserveAspectRatio: "xMidYMid slice" });
    const zoom = make("span", { class: "zoom" });
    const image = make("img", {
      src: verdict.pictures?.includes("image/rgb") ? `/blob/${verdict.result_id}/rgb` : null,
      alt: "",
      "data-result": verdict.result_id,
      onload: () => {
        image.closest(".thumb").classList.add("there");
        closer(zoom, verdict, image);
        boxes.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`);
        boxes.replaceChildren(
          ...(verdict.regions ?? []).map(({ bbox_px: [x, y, w, h] }) =>
            draw("rect", { x: x - 4, y: y - 4, width: w + 8, height: h + 8, rx: 3 }),
          ),
        );
      },
    });
    zoom.append(image, boxes);
    const name = `${WORD[verdict.outcome]}, ${verdict.part_id ?? `part ${verdict.seq}`}, score ${score(verdict.score)}, ${clock(verdict.creation_time)}`;
    return make(
      "li",
      { "data-result": verdict.result_id },
      make(
        "button",
        { type: "button", "aria-label": `${name}: open large`, onclick: () => this.#open(this.list.findIndex((one) => one.result_id === verdict.result_id)) },
        make("span", { class: "thumb" }, zoom, make("span", { class: "gone" }, "no picture")),
        make("span", { class: "thumb-text" }, make("b", {}, score(verdict.score)), make("span", {}, clock(verdict.creation_time))),
      ),
    );
  }

  async #open(index) {
    const verdict = this.list[index];
    if (!verdict) return;
    this.index = index;
    at("large-newer").disabled = index === 0;
    at("large-older").disabled = index === this.list.length - 1;
    at("large-title").textContent = `${WORD[verdict.outcome]} · ${verdict.part_id ?? `part ${verdict.seq}`}`;
    const worst = verdict.regions?.[0];
    const regions = verdict.regions_total ?? 0;
    at("large-text").textContent = [
      new Date(verdict.creation_time).toLocaleString(),
      `score ${score(verdict.score)}, threshold ${score(verdict.threshold)}`,
      regions ? `${regions} ${regions === 1 ? "region" : "regions"}, the worst ${worst.area_mm2.toFixed(1)} mm²` : null,
    ]
      .filter(Boolean)
      .join(" · ");
    if (!this.dialog.open) this.dialog.showModal();
    if (await this.stage.photo(verdict.result_id, verdict)) await this.stage.heat(verdict.result_id);
  }
}

/** A thumbnail shows the worst region from near by. */
function closer(zoom, verdict, image) {
  const [x, y] = verdict.regions?.[0]?.centroid_px ?? [];
  if (x === undefined) return;
  zoom.style.transformOrigin = `${(100 * x) / image.naturalWidth}% ${(100 * y) / image.naturalHeight}%`;
  zoom.style.transform = `scale(${CLOSER})`;
}
