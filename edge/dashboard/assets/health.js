// How the rig feels, in words: what is well in one line each, what is not with its reason.

import { age, at, bytes, clock, draw, make, sentence, words } from "./text.js";

const LOW_DISK_BYTES = 1e9;
const HOT_SOC_C = 85;
const LEVEL_DEG = 5; // at the rim of the bubble
const WORST = ["bad", "warn", "none", "ok"];
const SAID = { ok: "OK", warn: "Check", bad: "Trouble", none: "–" };

/** Rows of `[name, level, figures, reasons]` out of a health message. */
function rows(health) {
  return [
    camera(health.camera),
    broker(health.broker),
    outbox(health.outbox, health.broker),
    disk(health.disk_free_bytes),
    scene(health.scene),
    scores(health.score),
    ...promise(health.promise),
    ...reject(health.reject),
    work(health),
  ];
}

function camera(c) {
  const figures = [
    c.last_frame_age_s === null ? "no frame yet" : `frame ${age(c.last_frame_age_s)} old`,
    c.temperature_c === null ? null : `${c.temperature_c.toFixed(0)} °C`,
    c.usb === null ? null : `USB ${c.usb}`,
    c.reopened ? `reopened ${c.reopened}×` : null,
  ];
  if (c.down_s !== null) return ["Camera", "bad", [`away for ${age(c.down_s)}`], [sentence(words(c.down_reason))]];
  return ["Camera", "ok", figures, []];
}

function broker(b) {
  const waits = b.verdicts_pending;
  const figures = [b.protocol ? `MQTT ${b.protocol}` : null, b.reconnects ? `${b.reconnects} reconnects` : null];
  const reasons = [];
  if (!b.pictures_connected) reasons.push("Not connected. Verdicts wait on the disk; parts are inspected all the same.");
  if (b.verdicts_refused) reasons.push(`The broker refused a verdict ${b.verdicts_refused} times.`);
  if (reasons.length && b.last_error) reasons.push(sentence(b.last_error));
  if (waits > 20) reasons.push(`${waits} verdicts wait for it.`);
  return ["Broker", b.pictures_connected ? (reasons.length ? "warn" : "ok") : "bad", figures, reasons];
}

function outbox(o, b) {
  if (o === null) return ["Outbox", "none", [`${b.verdicts_pending} wait`], []];
  const figures = [`${o.unacknowledged} wait`, `${o.pictures} pictures, ${bytes(o.picture_bytes)}`];
  return ["Outbox", o.alarms.length ? "bad" : "ok", figures, o.alarms.map(sentence)];
}

function disk(free) {
  if (free === null) return ["Disk", "none", ["not told"], []];
  const low = free < LOW_DISK_BYTES;
  return ["Disk", low ? "warn" : "ok", [`${bytes(free)} free`], low ? ["Little room is left: pictures go first."] : []];
}

function scene(s) {
  if (s === null || s.now === null) return ["Scene", "none", ["not looked at yet"], []];
  const plane = s.now.plane;
  const figures = [
    plane === null ? "tray not found" : `tilt ${signed(plane.tilt_x_deg)} / ${signed(plane.tilt_y_deg)}`,
    `depth fill ${(100 * s.now.fill_share).toFixed(0)} %`,
    plane === null ? null : `${plane.distance_mm.toFixed(0)} mm`,
  ];
  const reasons = s.warnings.map((w) => sentence(w.detail));
  const level = reasons.length ? "warn" : plane === null ? "none" : "ok";
  return ["Scene", level, figures, reasons, plane];
}

function scores(s) {
  if (s === null) return ["Scores", "none", ["not watched"], []];
  const figures = [words(s.state), s.median_now === null ? null : `median ${s.median_now.toPrecision(3)}`];
  const warned = s.warning !== null;
  return ["Scores", warned ? "warn" : s.state === "watching" ? "ok" : "none", figures, warned ? [sentence(s.detail ?? words(s.warning))] : []];
}

function promise(p) {
  if (p === null) return [];
  const figures = [
    `at most ${percent(p.promised_rate)} of good parts rejected`,
    `${p.rejected} of ${p.good} were`,
    p.unlabelled ? `${p.unlabelled} rejects have no label` : null,
  ];
  const level = p.warning !== null ? "warn" : p.state === "watching" ? "ok" : "none";
  return [["Promise", level, figures, p.warning !== null ? [sentence(p.detail ?? words(p.warning))] : []]];
}

const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

function reject(r) {
  if (r === null || r.kind === "none") return [];
  const figures = [words(r.state), `${r.rejected} rejected`];
  return [["Reject output", r.error ? "bad" : "ok", figures, r.error ? [sentence(r.error)] : []]];
}

function work(h) {
  const figures = [
    h.latency_p50_ms === null ? null : `${h.latency_p50_ms.toFixed(0)} ms a part`,
    h.soc_temperature_c === null ? null : `${h.soc_temperature_c.toFixed(0)} °C`,
    `up ${age(h.uptime_s)}`,
  ];
  const reasons = [];
  if (h.clock_synced === false) reasons.push("The clock is not synchronised: times may be wrong.");
  if (h.work?.overruns) reasons.push(`${h.work.overruns} triggers came too fast and got an error.`);
  if (h.soc_temperature_c > HOT_SOC_C) reasons.push("The computer is hot, and may slow down.");
  return ["Computer", reasons.length ? "warn" : "ok", figures, reasons];
}

const signed = (deg) => `${deg < 0 ? "−" : "+"}${Math.abs(deg).toFixed(1)}°`;

/** A bubble level: which way the camera leans. */
function bubble(plane) {
  const at = (deg) => 12 + 8 * Math.max(-1, Math.min(1, deg / LEVEL_DEG));
  return draw(
    "svg",
    { class: "bubble", viewBox: "0 0 24 24", "aria-hidden": "true" },
    draw("circle", { cx: 12, cy: 12, r: 11 }),
    draw("path", { d: "M12 1v22M1 12h22" }),
    draw("circle", { class: "dot", cx: at(plane.tilt_y_deg), cy: at(-plane.tilt_x_deg), r: 3.5 }),
  );
}

/** Show a health message. */
export function showHealth(health) {
  const found = rows(health);
  at("health").replaceChildren(
    ...found.map(([name, level, figures, reasons, plane]) =>
      make(
        "li",
        { "data-level": level, "data-name": name },
        make("span", { class: "state" }, SAID[level]),
        make("span", { class: "name" }, name),
        make("span", { class: "figures" }, ...(plane ? [bubble(plane)] : []), figures.filter(Boolean).join(" · ")),
        ...reasons.map((reason) => make("p", {}, reason)),
      ),
    ),
  );
  const worst = WORST.find((level) => found.some((row) => row[1] === level));
  at("health").dataset.level = worst;
  at("health-note").textContent = `as of ${clock(health.creation_time)}`;
}
