// A part's picture with the heatmap over it, and the regions that the verdict names.

import { TURBO, levelOf, levels } from "./turbo.js";
import { draw, make, score } from "./text.js";

const FULL_AT = 0.3 * 255; // of the scale; below, the picture shines through, as in the rig's own overlays

async function loaded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** The heatmap with little opacity where it says little. */
function veil(image, canvas) {
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = picture;
  const found = levels();
  for (let i = 0; i < data.length; i += 4) {
    const level = levelOf(found, data[i], data[i + 1], data[i + 2]);
    data[i] = TURBO[3 * level];
    data[i + 1] = TURBO[3 * level + 1];
    data[i + 2] = TURBO[3 * level + 2];
    data[i + 3] = level >= FULL_AT ? 255 : (255 * level) / FULL_AT;
  }
  context.putImageData(picture, 0, 0);
}

/** Draws in `root`; what is asked for while another picture loads overtakes it. */
export class Stage {
  constructor(root) {
    this.root = root;
    this.image = make("img", { alt: "", hidden: true });
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.boxes = draw("svg", { class: "boxes", "aria-hidden": "true", preserveAspectRatio: "none" });
    this.empty = make("p", { class: "empty" }, "No picture yet");
    root.append(this.image, this.canvas, this.boxes, this.empty);
    this.resultId = null;
    this.wanted = 0;
  }

  /** Show the picture of a verdict; gives whether there was one. */
  async photo(resultId, verdict) {
    const turn = ++this.wanted;
    let image;
    try {
      image = await loaded(`/blob/${resultId}/rgb`);
    } catch {
      if (turn === this.wanted) this.nothing("The picture of this part is not kept");
      return false;
    }
    if (turn !== this.wanted) return true;
    if (this.resultId !== resultId) this.canvas.width = 0;
    this.resultId = resultId;
    image.alt = this.image.alt;
    this.image.replaceWith(image);
    this.image = image;
    this.empty.hidden = true;
    this.root.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
    this.root.dataset.result = resultId;
    this.describe(verdict);
    return true;
  }

  /** Lay the heatmap of the picture that is shown over it. */
  async heat(resultId) {
    try {
      const image = await loaded(`/blob/${resultId}/heatmap`);
      if (this.resultId === resultId) {
        veil(image, this.canvas);
        this.root.dataset.heat = resultId;
      }
    } catch {
      if (this.resultId === resultId) this.canvas.width = 0;
    }
  }

  /** The regions, in the frame's pixels, and what a person who can't see hears. */
  describe(verdict) {
    const [width, height] = [this.image.naturalWidth, this.image.naturalHeight];
    const regions = verdict?.regions ?? [];
    this.boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.boxes.replaceChildren(
      ...regions.map((region) => {
        const [x, y, w, h] = region.bbox_px;
        const pad = 4;
        return draw("rect", { x: x - pad, y: y - pad, width: w + 2 * pad, height: h + 2 * pad, rx: 3 });
      }),
    );
    const found = regions.map(
      (r) => `at ${Math.round(r.centroid_px[0])}, ${Math.round(r.centroid_px[1])}: ${r.area_mm2.toFixed(1)} mm², peak ${score(r.peak)}`,
    );
    this.image.alt = verdict
      ? `The part as the camera saw it. ${found.length ? `Regions above the threshold ${found.join("; ")}.` : "No region above the threshold."}`
      : "The part as the camera saw it.";
  }

  nothing(text) {
    this.resultId = null;
    this.image.hidden = true;
    this.canvas.width = 0;
    this.boxes.replaceChildren();
    this.empty.textContent = text;
    this.empty.hidden = false;
    delete this.root.dataset.result;
    delete this.root.dataset.heat;
  }
}
