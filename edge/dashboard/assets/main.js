// The page: takes what the rig says, and shows it.

import { showHealth } from "./health.js";
import { Rejects } from "./rejects.js";
import { Stage } from "./stage.js";
import { Stream } from "./stream.js";
import { age, at, clock, make, score, sentence, WORD, words } from "./text.js";
import { ThresholdDialog } from "./threshold.js";
import { legend, Trend } from "./trend.js";

const POINTS = 200;
const SPEAK_MS = 2000;
const PICTURE_LATE_MS = 1500;
const KEPT = 50;
const REJECTED = new Set(["fail", "review"]);
const WORKING = new Set(["ContinuousExecution", "SingleExecution", "Ready"]);

const verdicts = new Map();
let latest = null;
let recipe = null;
let machine = null;
let health = null;
let healthAt = null;
let healthS = 5;
let offsetMs = null; // of the rig's clock against this browser's
let spokenAt = -Infinity;
let toSpeak = null; // the newest verdict's words, while the ones before are being read out

const stage = new Stage(at("stage"));
const large = new Stage(at("large-stage"));
const rejects = new Rejects(large);
const trend = new Trend(at("chart"), POINTS, (value) => asking.ask(value));
const asking = new ThresholdDialog(trend, () => recipe);

// -- the verdict ---------------------------------------------------------------------------------

/** The reason in words: what a person three metres away has to know, and a sentence for one who comes near. */
function reasons(verdict) {
  const regions = verdict.regions_total ?? 0;
  if (verdict.outcome === "pass") return ["No defect", verdict.detail ?? ""];
  if (verdict.outcome === "review" && !verdict.reason) {
    return ["A person has to look", `score ${score(verdict.score)}, just below the threshold of ${score(verdict.threshold)}`];
  }
  if (verdict.outcome === "fail" && !verdict.reason) {
    const worst = verdict.regions?.[0];
    const found = regions ? `${regions} ${regions === 1 ? "defect" : "defects"}` : "Score above the threshold";
    return [found, worst ? `${regions > 1 ? "the worst " : ""}${worst.area_mm2.toFixed(1)} mm², ${over(worst.peak, verdict.threshold)}` : ""];
  }
  return [sentence(words(verdict.reason)) || "Have a look", sentence(verdict.detail ?? "")];
}

const over = (peak, threshold) => (threshold > 0 ? `peak ${(peak / threshold).toFixed(1)} × the threshold` : `peak ${score(peak)}`);

function showVerdict(verdict) {
  const [reason, detail] = reasons(verdict);
  const word = WORD[verdict.outcome] ?? verdict.outcome.toUpperCase();
  const panel = at("verdict");
  panel.dataset.outcome = verdict.outcome;
  panel.dataset.made = verdict.creation_time;
  panel.dataset.result = verdict.result_id;
  at("verdict-word").textContent = word;
  at("verdict-icon").setAttribute("href", `#i-${verdict.outcome}`);
  at("verdict-reason").textContent = reason;
  at("verdict-detail").textContent = detail;
  at("fact-part").textContent = verdict.part_id ?? `#${verdict.seq}`;
  at("fact-score").textContent = score(verdict.score);
  at("fact-threshold").textContent = score(verdict.threshold) + (verdict.threshold_provisional ? " provisional" : "");
  at("simulated").hidden = !verdict.is_simulated;
  // Begins anew, so that two parts of one outcome are seen to be two.
  panel.classList.remove("fresh");
  void panel.offsetWidth;
  panel.classList.add("fresh");
  speak(`${word}. ${reason}. ${verdict.part_id ?? ""}`);
  setTimeout(checkPicture, PICTURE_LATE_MS);
}

/** Says it now or, where a screen reader may not be through with the last one, then: the newest is always said. */
function speak(words) {
  const waiting = toSpeak !== null;
  toSpeak = words;
  if (!waiting) setTimeout(sayIt, Math.max(0, spokenAt + SPEAK_MS - performance.now()));
}

function sayIt() {
  spokenAt = performance.now();
  at("spoken").textContent = toSpeak;
  toSpeak = null;
}

function checkPicture() {
  const other = latest !== null && stage.resultId !== null && stage.resultId !== latest.result_id;
  at("stage").classList.toggle("earlier", other);
  at("picture-note").textContent = other ? "This picture is of an earlier part: the last one has none." : "";
}

function takeVerdict(verdict, live) {
  if (verdicts.has(verdict.result_id)) return;
  verdicts.set(verdict.result_id, verdict);
  while (verdicts.size > KEPT) verdicts.delete(verdicts.keys().next().value);
  trend.add(verdict);
  legend(verdict.outcome === "review");
  if (REJECTED.has(verdict.outcome)) rejects.add(verdict);
  if (live && (latest === null || newer(verdict, latest))) {
    latest = verdict;
    showVerdict(verdict);
  }
}

const newer = (a, b) => a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);

// -- its pictures --------------------------------------------------------------------------------

let photoTurn = Promise.resolve();

function takePicture(info) {
  if (latest !== null && info.result_id !== latest.result_id) return;
  if (info.kind === "image/rgb") {
    rejects.pictureCame(info.result_id);
    photoTurn = stage.photo(info.result_id, verdicts.get(info.result_id)).then(checkPicture);
  } else if (info.kind === "heatmap") {
    showScale(info.low, info.high, latest?.threshold ?? null);
    // The photo first: the heatmap is laid over it.
    pendingHeat = info.result_id;
    photoTurn.then(heat);
    if (stage.resultId !== info.result_id) waitForPhoto(info.result_id);
  }
}

let pendingHeat = null;

async function heat() {
  if (pendingHeat === null || stage.resultId !== pendingHeat) return;
  const id = pendingHeat;
  pendingHeat = null;
  await stage.heat(id);
}

/** The rig sends the heatmap before the photo. */
function waitForPhoto(resultId) {
  const again = () => {
    if (pendingHeat !== resultId) return;
    if (stage.resultId === resultId) heat();
    else if (latest?.result_id === resultId) setTimeout(again, 30);
  };
  again();
}

function showScale(low, high, threshold) {
  at("scale-low").textContent = score(low);
  at("scale-high").textContent = score(high);
  const share = threshold === null ? null : (threshold - low) / (high - low);
  const inside = share !== null && share > 0 && share < 1;
  at("scale-mark").hidden = at("scale-middle").hidden = !inside;
  if (inside) {
    at("scale-mark").style.left = at("scale-middle").style.left = `${100 * share}%`;
    at("scale-middle").textContent = score(threshold);
  }
  at("scale").setAttribute(
    "aria-label",
    `Colour scale from ${score(low)} to ${score(high)}${inside ? `, the threshold is ${score(threshold)}` : ""}`,
  );
}

// -- counts, state, recipe -----------------------------------------------------------------------

const ORDER = ["pass", "fail", "review", "no_decision", "error"];

function showCounts(counts) {
  const given = counts.outcomes;
  const shown = ORDER.filter((name) => name in given);
  const total = shown.reduce((sum, name) => sum + given[name], 0);
  const judged = total - (given.no_decision ?? 0) - (given.error ?? 0);
  at("counts-title").textContent = counts.shift ? "This shift" : "Last 8 hours";
  at("counts-since").textContent = `${total} ${total === 1 ? "part" : "parts"} since ${clock(counts.since, false)}`;
  at("yield").textContent = judged ? `${((100 * (given.pass ?? 0)) / judged).toFixed(1)} %` : "–";
  at("counts").replaceChildren(
    ...shown.map((name) => make("div", { "data-outcome": name }, make("dt", {}, sentence(words(name))), make("dd", {}, String(given[name])))),
  );
  at("counts-bar").replaceChildren(
    ...shown.filter((name) => given[name]).map((name) => {
      const part = make("span", { "data-outcome": name });
      part.style.flexGrow = String(given[name]);
      return part;
    }),
  );
}

const STATES = {
  Preoperational: ["Starting", "warn"],
  Ready: ["Ready", "ok"],
  SingleExecution: ["Inspecting", "ok"],
  ContinuousExecution: ["Inspecting", "ok"],
  Error: ["Error", "bad"],
  Halted: ["Stopped", "bad"],
};

function showMachine(state) {
  machine = state;
  const [word, level] = STATES[state.state] ?? [state.state, "none"];
  at("machine").textContent = word;
  at("machine").dataset.level = level;
  watch();
}

function showRecipe(state) {
  recipe = state.running;
  const loading = state.loading ? ` → ${state.loading}` : "";
  at("recipe").textContent = recipe.name === "main" ? recipe.product : `${recipe.product} · ${recipe.name}${loading}`;
  trend.setThreshold(recipe.threshold, recipe.review_threshold ?? null);
  legend((recipe.review_threshold ?? null) !== null);
}

// -- whether what is shown is still true ---------------------------------------------------------

/** Says it unmistakably where it is not. */
function watch() {
  const ageS = stream.ageS();
  const lost = stream.lost;
  const silentS = healthAt === null ? 0 : (performance.now() - healthAt) / 1000;
  const silent = !lost && silentS > Math.max(3 * healthS, 10);
  const idle = !lost && !silent && machine !== null && !WORKING.has(machine.state);
  let title = "";
  if (lost) {
    title = ageS === null ? "No connection to the rig" : "Connection lost";
    say(title, ageS === null ? "Nothing was heard yet; it is tried again." : "Nothing on this page is true any more until it is back. It is tried again.", ageS);
  } else if (silent) {
    title = "The rig is silent";
    say(title, "The page reaches it, but it says nothing of itself: the inspection may hang.", silentS);
  } else if (idle) {
    title = machine.state === "Preoperational" ? "The rig is starting" : machine.state === "Error" ? "Not inspecting" : "Stopped";
    say(title, sentence(machine.detail ?? words(machine.reason ?? "")), ((Date.now() - (offsetMs ?? 0) - Date.parse(machine.creation_time)) / 1000));
  }
  at("lost").hidden = !title;
  at("lost").dataset.kind = lost || silent ? "lost" : "idle";
  document.body.classList.toggle("lost", lost || silent);
  document.body.classList.toggle("idle", idle);
  at("age").dataset.level = ageS === null ? "none" : lost ? "bad" : "ok";
  at("age-text").textContent = ageS === null ? "connecting" : lost ? `data ${age(ageS)} old` : `live · ${age(ageS)}`;
  const verdict = latest ? (WORD[latest.outcome] ?? latest.outcome) : "";
  document.title = title ? `${title} · ${at("rig-name").textContent}` : `${verdict ? `${verdict} · ` : ""}${at("rig-name").textContent}`;
  if (latest) {
    const s = (Date.now() - (offsetMs ?? 0) - Date.parse(latest.creation_time)) / 1000;
    at("fact-when").textContent = s < 2 ? "just now" : `${age(s)} ago`;
  }
}

function say(title, text, ageS) {
  // An alert is read out when it changes: the age stands outside of what changes rarely.
  if (at("lost-title").textContent !== title) at("lost-title").textContent = title;
  if (at("lost-text").textContent !== text) at("lost-text").textContent = text;
  at("lost-age").parentElement.hidden = ageS === null;
  if (ageS !== null) at("lost-age").textContent = age(ageS);
}

// -- settings of this browser --------------------------------------------------------------------

const THEMES = { auto: ["Auto", "as the system has them"], dark: ["Dark", "dark"], light: ["Light", "light"] };

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  at("theme").textContent = THEMES[theme][0];
  at("theme").setAttribute("aria-label", `Colours: ${THEMES[theme][1]}`);
  remember("theme", theme);
  trend.later();
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing: it holds until the page is closed.
  }
}

function remembered(name, otherwise) {
  try {
    return localStorage.getItem(name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

at("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % names.length]);
});
setTheme(remembered("theme", "auto") in THEMES ? remembered("theme", "auto") : "auto");

function setOpacity(percent) {
  document.documentElement.style.setProperty("--heat", String(percent / 100));
  at("opacity-text").textContent = `${percent} %`;
}
at("opacity").value = remembered("opacity", "70");
setOpacity(at("opacity").value);
at("opacity").addEventListener("input", (event) => {
  setOpacity(event.target.value);
  remember("opacity", event.target.value);
});
at("boxes").addEventListener("change", (event) => document.body.classList.toggle("no-boxes", !event.target.checked));

// -- the stream ----------------------------------------------------------------------------------

function keepTime(said) {
  const offset = Date.now() - Date.parse(said.now);
  // The least that was seen: what is more was on its way.
  offsetMs = offsetMs === null || offset < offsetMs ? offset : offsetMs + 0.02 * (offset - offsetMs);
}

const stream = new Stream(
  {
    hello(said) {
      keepTime(said);
      stream.beatS = said.beat_s;
      healthS = said.health_s;
      at("rig-name").textContent = `${said.rig.line} · ${said.rig.cell}`;
      at("rig-place").textContent = [said.rig.enterprise, said.rig.site, said.rig.area].join(" · ");
      at("version").textContent = `edge-inspect ${said.software_version}`;
    },
    past(said) {
      trend.clear();
      verdicts.clear();
      for (const verdict of said.verdicts) trend.add(verdict);
      rejects.set(said.rejects);
      if (said.verdicts.some((v) => v.outcome === "review")) legend(true);
    },
    verdict: (verdict) => takeVerdict(verdict, true),
    picture: takePicture,
    counts: showCounts,
    recipe: showRecipe,
    state: showMachine,
    health(said) {
      health = said;
      healthAt = performance.now();
      showHealth(health);
    },
    beat: keepTime,
  },
  () => watch(),
);

setInterval(watch, 500);
