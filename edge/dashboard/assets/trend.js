// The scores of the last parts, and the threshold as a line that can be moved.

import { at, draw, score } from "./text.js";

const LEFT = 8;
const RIGHT = 92; // for the handle and its number
const TOP = 14;
const BOTTOM = 22;
const STEP = 0.01;
const PAGE = 0.1;
const BEYOND = 3; // thresholds; what is higher is drawn at the top, so that the line stays where it can be moved

/** `onAsk(value)` is called when a person has chosen another threshold. */
export class Trend {
  constructor(root, points, onAsk) {
    this.root = root;
    this.max = points;
    this.onAsk = onAsk;
    this.verdicts = new Map();
    this.threshold = null;
    this.review = null;
    this.chosen = null;
    this.dragging = false;
    this.svg = draw("svg", { class: "trend-drawing" });
    this.plot = draw("g", { role: "img", "aria-label": "Scores of the last parts" });
    this.handle = draw("g", {
      class: "handle",
      role: "slider",
      tabindex: "0",
      "aria-label": "Threshold",
      "aria-orientation": "vertical",
      "aria-describedby": "trend-hint",
    });
    this.svg.append(this.plot, this.handle);
    root.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(root);
    this.#listen();
  }

  add(verdict) {
    this.verdicts.set(verdict.result_id, verdict);
    while (this.verdicts.size > this.max) this.verdicts.delete(this.verdicts.keys().next().value);
    this.later();
  }

  clear() {
    this.verdicts.clear();
    this.later();
  }

  /** `review`: above it, and up to the threshold, a person has to look; null where none has to. */
  setThreshold(value, review = null) {
    this.threshold = value;
    this.review = review;
    if (!this.dragging) this.chosen = null;
    this.later();
  }

  /** Put the line back where the rig has it. */
  putBack() {
    this.chosen = null;
    this.dragging = false;
    this.draw();
  }

  /** How many of the parts on the chart would fail by that threshold, and how many have a score. */
  failing(threshold) {
    const scores = [...this.verdicts.values()].map((v) => v.score).filter((s) => s !== null);
    return { fail: scores.filter((s) => s > threshold).length, of: scores.length };
  }

  /** At most once for each picture of the screen. */
  later() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    const { width, height } = this.root.getBoundingClientRect();
    if (width < 50 || height < 50) return;
    [this.width, this.height] = [width, height];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!this.dragging) this.#scale();
    const verdicts = [...this.verdicts.values()];
    const step = (width - LEFT - RIGHT) / Math.max(1, this.max - 1);
    const x = (i) => width - RIGHT - (verdicts.length - 1 - i) * step;
    const parts = [this.#axis()];
    parts.push(...this.#thresholds(verdicts, x, step), ...verdicts.map((v, i) => this.#mark(v, x(i), i === verdicts.length - 1)));
    this.plot.replaceChildren(...parts);
    const scored = verdicts.filter((v) => v.score !== null).length;
    this.plot.setAttribute(
      "aria-label",
      `Scores of the last ${verdicts.length} parts; ${verdicts.filter((v) => v.outcome === "fail").length} failed, ${verdicts.length - scored} have no score`,
    );
    this.root.dataset.points = verdicts.length;
    this.#drawHandle();
  }

  #scale() {
    const scores = [...this.verdicts.values()].map((v) => v.score).filter((s) => s !== null).sort((a, b) => a - b);
    const most = scores.length ? scores[Math.floor(0.98 * (scores.length - 1))] : 1;
    const threshold = this.threshold ?? 0;
    this.low = Math.min(0, scores[0] ?? 0, threshold);
    this.high = Math.max(threshold > 0 ? 2 * threshold : threshold + 1, Math.min(1.1 * most, BEYOND * Math.abs(threshold) || 1.1 * most));
    if (!(this.high > this.low)) this.high = this.low + 1;
  }

  y(value) {
    const share = (Math.min(Math.max(value, this.low), this.high) - this.low) / (this.high - this.low);
    return this.height - BOTTOM - share * (this.height - TOP - BOTTOM);
  }

  value(y) {
    const share = (this.height - BOTTOM - y) / (this.height - TOP - BOTTOM);
    return this.low + Math.min(Math.max(share, 0), 1) * (this.high - this.low);
  }

  #axis() {
    const base = this.height - BOTTOM;
    const review = this.review === null ? null : this.y(this.review);
    return draw(
      "g",
      { class: "axis" },
      ...(review === null ? [] : [draw("line", { class: "review", x1: LEFT, x2: this.width - RIGHT, y1: review, y2: review })]),
      draw("line", { x1: LEFT, x2: this.width - RIGHT, y1: base, y2: base }),
      text(LEFT, TOP - 3, score(this.high), "start"),
      text(LEFT, base + 15, score(this.low), "start"),
      text(this.width - RIGHT, base + 15, "now", "end"),
    );
  }

  /** By which threshold each part was judged. */
  #thresholds(verdicts, x, step) {
    let path = "";
    let before = null;
    verdicts.forEach((verdict, i) => {
      if (verdict.threshold === null) return;
      const y = this.y(verdict.threshold);
      path += before === null ? `M${x(i) - step / 2} ${y}` : before === y ? "" : `H${x(i) - step / 2}V${y}`;
      before = y;
    });
    if (before === null) return [];
    return [draw("path", { class: "threshold-path", d: `${path}H${this.width - RIGHT}` })];
  }

  #mark(verdict, x, newest) {
    const kind = verdict.score === null ? "none" : verdict.outcome;
    const title = draw("title", {}, `${verdict.part_id ?? `#${verdict.seq}`}: ${verdict.outcome}, ${score(verdict.score)}`);
    if (verdict.score === null) {
      const y = this.height - BOTTOM;
      return draw("path", { class: "mark none", d: `M${x} ${y - 4}v8` }, title);
    }
    const y = this.y(verdict.score);
    const beyond = verdict.score > this.high;
    const size = newest ? 1.5 : 1;
    const d = beyond
      ? `M${x - 4} ${y + 4}L${x} ${y - 3}L${x + 4} ${y + 4}Z`
      : kind === "fail"
        ? `M${x} ${y - 5 * size}L${x + 5 * size} ${y}L${x} ${y + 5 * size}L${x - 5 * size} ${y}Z`
        : kind === "review"
          ? `M${x} ${y - 5 * size}L${x + 5 * size} ${y + 4 * size}H${x - 5 * size}Z`
          : `M${x - 3 * size} ${y}a${3 * size} ${3 * size} 0 1 0 ${6 * size} 0a${3 * size} ${3 * size} 0 1 0 ${-6 * size} 0Z`;
    return draw("path", { class: `mark ${kind}${newest ? " newest" : ""}`, d, "data-result": verdict.result_id }, title);
  }

  #drawHandle() {
    const value = this.chosen ?? this.threshold;
    this.handle.style.display = value === null ? "none" : "";
    if (value === null) return;
    const y = this.y(value);
    const right = this.width - RIGHT;
    this.handle.classList.toggle("moved", this.chosen !== null);
    this.handle.setAttribute("aria-valuemin", String(this.low));
    this.handle.setAttribute("aria-valuemax", String(this.high));
    this.handle.setAttribute("aria-valuenow", String(value));
    this.handle.setAttribute(
      "aria-valuetext",
      this.chosen === null ? score(value) : `${score(value)}, not set yet: press Enter to be asked, Escape to put it back`,
    );
    this.handle.replaceChildren(
      draw("rect", { class: "grip", x: LEFT, y: y - 14, width: this.width - LEFT, height: 28 }),
      draw("line", { class: "line", x1: LEFT, x2: right + 6, y1: y, y2: y }),
      draw("rect", { class: "knob", x: right + 6, y: y - 13, width: RIGHT - 10, height: 26, rx: 6 }),
      draw("path", { class: "arrows", d: `M${right + 13} ${y - 3}l4 -5l4 5zM${right + 13} ${y + 3}l4 5l4 -5z` }),
      text(right + 26, y + 5, score(value), "start"),
    );
  }

  #listen() {
    const handle = this.handle;
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.threshold === null) return;
      event.preventDefault();
      handle.focus({ preventScroll: true });
      handle.setPointerCapture(event.pointerId);
      this.dragging = true;
      // A person takes hold of the line somewhere near it; it must not jump to the finger.
      this.offset = this.#pointerY(event) - this.y(this.chosen ?? this.threshold);
      this.startY = event.clientY;
    });
    handle.addEventListener("pointermove", (event) => {
      if (!this.dragging || (this.chosen === null && Math.abs(event.clientY - this.startY) < 3)) return;
      this.chosen = this.#rounded(this.value(this.#pointerY(event) - this.offset));
      this.#drawHandle();
    });
    handle.addEventListener("pointerup", () => {
      if (!this.dragging) return;
      this.dragging = false;
      this.#ask();
    });
    handle.addEventListener("pointercancel", () => this.putBack());
    handle.addEventListener("keydown", (event) => {
      const now = this.chosen ?? this.threshold;
      const size = Math.abs(this.threshold) || 1;
      const by = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP, PageUp: PAGE, PageDown: -PAGE }[event.key];
      if (by !== undefined) this.chosen = this.#rounded(Math.min(Math.max(now + by * size, this.low), this.high));
      else if (event.key === "Enter" || event.key === " ") this.#ask();
      else if (event.key === "Escape") this.chosen = null;
      else return;
      event.preventDefault();
      this.#drawHandle();
    });
  }

  #ask() {
    if (this.chosen !== null) this.onAsk(this.chosen);
  }

  #pointerY(event) {
    return event.clientY - this.svg.getBoundingClientRect().top;
  }

  /** Three digits that count: no person means more. */
  #rounded(value) {
    const size = Math.abs(this.threshold) || 1;
    const unit = 10 ** (Math.floor(Math.log10(size)) - 2);
    return Number((Math.round(value / unit) * unit).toPrecision(12));
  }
}

function text(x, y, said, anchor) {
  return draw("text", { x, y, "text-anchor": anchor }, said);
}

/** The words for what another threshold would have done. */
export function effect(trend, before, after) {
  const now = trend.failing(before);
  const then = trend.failing(after);
  if (!now.of) return "No part with a score is on the chart, so nothing can be said of what it would change.";
  const verb = then.fail === 1 ? "has" : "have";
  return `Of the last ${now.of} parts with a score, ${now.fail} ${now.fail === 1 ? "lies" : "lie"} above ${score(before)}; ${then.fail} would ${verb === "has" ? "lie" : "lie"} above ${score(after)}.`;
}

/** Whether the legend has to explain a third kind of mark. */
export function legend(reviews) {
  if (!reviews || at("legend").querySelector('[data-shape="review"]')) return;
  const item = document.createElement("span");
  item.dataset.shape = "review";
  item.textContent = "review";
  at("legend").insertBefore(item, at("legend").lastElementChild);
}
