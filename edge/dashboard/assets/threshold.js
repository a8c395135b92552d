// Asks before the threshold is changed, sends the command, and shows what the rig says to it.

import { at, score, sentence, words } from "./text.js";
import { effect } from "./trend.js";

/** `recipe()` gives what runs now, as the rig said it last. */
export class ThresholdDialog {
  constructor(trend, recipe) {
    this.trend = trend;
    this.recipe = recipe;
    this.dialog = at("ask");
    this.done = false;
    at("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.done) this.dialog.close();
      else this.#send();
    });
    at("ask-cancel").addEventListener("click", () => this.dialog.close());
    at("ask-after").addEventListener("input", () => this.#effect());
    this.dialog.addEventListener("close", () => {
      trend.putBack();
      trend.handle.focus({ preventScroll: true });
    });
  }

  ask(value) {
    const recipe = this.recipe();
    this.done = false;
    this.#look();
    at("ask-recipe").textContent = recipe ? `For ${recipe.product}, recipe ${recipe.name}, from the next part on.` : "";
    at("ask-after").value = String(value);
    at("ask-after").disabled = false;
    at("ask-send").disabled = false;
    at("ask-send").textContent = "Set the threshold";
    at("ask-cancel").hidden = false;
    this.#answer("", "");
    this.#effect();
    if (!this.dialog.open) this.dialog.showModal();
    at("ask-cancel").focus();
  }

  /** What is in force now, which is what the person sees and the command names. */
  #look() {
    const recipe = this.recipe();
    this.before = this.trend.threshold;
    this.name = recipe?.name ?? null;
    this.version = recipe?.calibration_version ?? 0;
    this.review = recipe?.review_threshold ?? null;
    at("ask-before").textContent = score(this.before);
  }

  #effect() {
    const value = at("ask-after").valueAsNumber;
    if (!Number.isFinite(value)) {
      at("ask-effect").textContent = "";
      return;
    }
    const review =
      this.review === null
        ? ""
        : this.review < value
          ? ` What lies above ${score(this.review)} is still for review.`
          : ` Nothing is for review any more: that would begin at ${score(this.review)}.`;
    at("ask-effect").textContent = effect(this.trend, this.before, value) + review;
  }

  async #send() {
    const value = at("ask-after").valueAsNumber;
    if (!Number.isFinite(value)) return;
    at("ask-send").disabled = at("ask-after").disabled = true;
    this.#answer("waits", "The rig is asked …");
    const order = { command: "threshold", request_id: id(), threshold: value, expected_version: this.version };
    if (this.name !== null) order.recipe = this.name;
    if (this.review !== null && this.review < value) order.review_threshold = this.review;
    let said;
    try {
      const response = await fetch("/command", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(order),
      });
      said = response.ok ? await response.json() : { status: "refused", reason: "not_sent", detail: await response.text() };
    } catch {
      said = { status: "refused", reason: "no_answer", detail: "The rig did not answer. Whether the threshold was changed shows with the next part." };
    }
    this.done = said.status !== "refused";
    if (this.done) {
      this.#answer("done", `Done: the threshold is ${score(value)}.${said.detail ? ` ${sentence(said.detail)}` : ""}`);
      at("ask-send").textContent = "Close";
      at("ask-cancel").hidden = true;
    } else {
      this.#answer("refused", `Refused: ${words(said.reason)}. ${sentence(said.detail ?? "")}`);
      at("ask-after").disabled = false;
      at("ask-send").textContent = "Try again";
      this.#look();
      this.#effect();
    }
    at("ask-send").disabled = false;
  }

  #answer(level, text) {
    at("ask-answer").dataset.level = level;
    at("ask-answer").textContent = text;
  }
}

/** An id that nobody has had; `randomUUID` is there only under https and on this machine. */
function id() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
