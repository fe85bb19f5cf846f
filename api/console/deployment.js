// What is served and by whom, drawn from `GET /v1/status`.

import { element, show } from "./dom.js";
import { sparkline } from "./sparkline.js";
import { counted, duration, rough, whole } from "./words.js";

/** How many looks the small lines remember, three minutes of them, and the fewest that they are drawn for. */
const REMEMBERED = 90;
const FEWEST = 15;

/** What the lanes looked like, by model and lane; begins when the page is opened. */
const history = new Map();

export function note(status) {
  for (const model of status.models) {
    for (const lane of model.lanes) {
      const seen = seenOf(model, lane);
      seen.waiting.push(lane.waiting_requests);
      seen.median.push(lane.p50_ms === null ? null : lane.p50_ms / 1000);
      for (const values of [seen.waiting, seen.median]) if (values.length > REMEMBERED) values.shift();
    }
  }
}

export function showModels(status) {
  show(document.getElementById("models"), element("ul", { class: "cards" }, status.models.map(modelCard)));
}

/** The list that a key without the group `admin` may see. */
export function showModelList(models) {
  const cards = models.map((model) =>
    element("li", { class: "card" }, heading(model.id, model.ready ? "ready" : "not served", model.ready), element(
      "p", { class: "soft" }, facts([model.capabilities.join(", "), dimensions(model), limit(model)]),
    )));
  show(document.getElementById("models"), element("ul", { class: "cards" }, cards));
}

export function showWorkers(status) {
  document.getElementById("workers-section").hidden = false;
  const workers = status.workers.length
    ? element("ul", { class: "cards small-cards" }, status.workers.map(workerCard))
    : element("p", {}, "No worker is alive.");
  show(document.getElementById("workers"), workers);
  const parts = status.parts;
  show(document.getElementById("parts"), facts([
    counted(parts.gateways, "gateway"),
    counted(parts.job_runners, "job runner"),
    counted(parts.callback_workers, "callback worker"),
    status.active_jobs === null ? null : counted(status.active_jobs, "active bulk job"),
    `${counted(status.lost_workers, "worker")} lost so far`,
  ]));
}

export function hideWorkers() {
  document.getElementById("workers-section").hidden = true;
}

function modelCard(model) {
  const state = model.ready ? "ready" : model.sleeping ? "asleep" : "not served";
  return element(
    "li",
    { class: model.ready || model.sleeping ? "card" : "card bad" },
    heading(model.name, state, model.ready || model.sleeping),
    element("p", { class: "soft" }, facts([
      model.model_type,
      model.kinds.filter((kind) => kind !== "dense").join(", "),
      dimensions(model),
      limit(model),
      counted(model.workers, "worker"),
      model.tokens_per_s ? `${rough(model.tokens_per_s)} tokens/s` : "",
    ])),
    model.aliases.length ? element("p", { class: "soft small" }, `Also called ${model.aliases.join(", ")}`) : null,
    model.lanes.map((lane) => laneOf(model, lane)),
  );
}

function laneOf(model, lane) {
  const seen = seenOf(model, lane);
  return element(
    "div",
    { class: "lane", role: "group", "aria-label": `Lane ${lane.lane} of ${model.name}` },
    element("h4", {}, lane.lane),
    element(
      "dl",
      {},
      figure("Waiting", whole(lane.waiting_requests), sparkline(seen.waiting, FEWEST, "Waiting requests", whole)),
      figure("p50", milliseconds(lane.p50_ms), sparkline(seen.median, FEWEST, "Median latency", duration)),
      figure("p95", milliseconds(lane.p95_ms)),
      figure("Oldest wait", lane.waiting_requests ? duration(lane.oldest_s) : "–"),
      figure("Queued tasks", lane.queued_tasks === null ? "?" : whole(lane.queued_tasks)),
      figure("Answered/s", rough(lane.answered_per_s)),
    ),
  );
}

function workerCard(worker) {
  const fine = worker.state === "ready";
  return element(
    "li",
    { class: worker.state === "wedged" ? "card bad" : "card" },
    heading(worker.worker, worker.state, fine),
    element("p", { class: "soft" }, facts([worker.device, worker.hostname, `process ${worker.pid}`, `version ${worker.version}`])),
    element("ul", { class: "bare" }, worker.models.map((model) => element("li", {}, facts([
      model.name, model.dtype, `${rough(model.tokens_per_s)} tokens/s`, `batches of ${whole(model.max_batch_tokens)} tokens`,
    ])))),
  );
}

function heading(name, state, fine) {
  return element(
    "div",
    { class: "head" },
    element("h3", {}, name),
    element("span", { class: fine ? "badge good" : "badge bad" }, state),
  );
}

function figure(name, value, line = null) {
  return element("div", { class: "figure" }, element("dt", {}, name), element("dd", {}, value, line));
}

function facts(entries) {
  return entries.filter(Boolean).join(" · ");
}

function dimensions(model) {
  return model.dimensions ? `${whole(model.dimensions)} dimensions` : "";
}

function limit(model) {
  return model.max_tokens ? `up to ${whole(model.max_tokens)} tokens` : "";
}

function milliseconds(ms) {
  return duration(ms === null ? null : ms / 1000);
}

function seenOf(model, lane) {
  const name = `${model.name}\n${lane.lane}`;
  if (!history.has(name)) history.set(name, { waiting: [], median: [] });
  return history.get(name);
}
