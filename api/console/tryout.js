// One embedding, one ranking, and what came back.

import { commandBlock } from "./curl.js";
import { element, show } from "./dom.js";
import { ask } from "./service.js";
import { counted, duration, whole } from "./words.js";

const SHOWN_NUMBERS = 6;

/** Offer the models that can do it, or say why there is none; keeps the choice that was made. */
export function offer(models, otherwise = "No model that is ready does this") {
  offerIn("embed-model", models.filter((model) => does(model, "embed") && model.kinds.includes("dense")), otherwise);
  offerIn("rerank-model", models.filter((model) => does(model, "rerank")), otherwise);
}

function does(model, operation) {
  return model.operations.includes(operation);
}

function offerIn(id, models, otherwise) {
  const select = document.getElementById(id);
  const form = select.closest("form");
  const chosen = select.value;
  const options = models.map((model) => element("option", { value: model.name }, model.name));
  show(select, options.length ? options : element("option", { value: "" }, otherwise));
  form.querySelector("[type=submit]").disabled = options.length === 0 || form.ariaBusy === "true";
  if (models.some((model) => model.name === chosen)) select.value = chosen;
}

/** Wire both forms; `refused` is told of each refusal. */
export function ready(refused) {
  wire("embed", "Embedding…", embed, refused);
  wire("rerank", "Reranking…", rerank, refused);
}

function wire(id, busy, run, refused) {
  const form = document.getElementById(id);
  const button = form.querySelector("[type=submit]");
  const result = form.querySelector(".result");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = button.textContent;
    form.ariaBusy = "true";
    button.disabled = true;
    button.textContent = busy;
    try {
      result.replaceChildren(...(await run()));
    } catch (error) {
      result.replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
      refused(error);
    } finally {
      form.ariaBusy = "false";
      button.disabled = false;
      button.textContent = name;
    }
  });
}

async function embed() {
  const [text, other] = [value("embed-text"), value("embed-other")];
  if (text.trim() === "") throw new Error("There is no text to embed.");
  const texts = other.trim() === "" ? [text] : [text, other];
  const path = "v1/embeddings";
  const body = { model: value("embed-model"), input: texts, encoding_format: "float" };
  const answer = await ask(path, { body });
  const vectors = answer.data.data.map((row) => row.embedding);
  return [
    element("p", {}, [
      `${whole(vectors[0].length)} dimensions`, counted(answer.data.usage.total_tokens, "token"), took(answer),
    ].join(" · ")),
    vectors.length === 2 ? similarity(cosine(...vectors)) : null,
    ...vectors.map((vector, index) => numbers(vector, vectors.length === 2 ? ["Text", "Compared"][index] : "Vector")),
    commandBlock(path, body),
  ].filter(Boolean);
}

async function rerank() {
  const passages = value("rerank-passages").split("\n").filter((line) => line.trim() !== "");
  const path = "v1/rerank";
  const body = { model: value("rerank-model"), query: value("rerank-query"), documents: passages };
  const answer = await ask(path, { body });
  const results = answer.data.results;
  const most = Math.max(1, ...results.map((result) => result.relevance_score));
  return [
    element("p", {}, [counted(results.length, "passage"), took(answer)].join(" · ")),
    element("ol", { class: "ranking" }, results.map((result) => element(
      "li",
      {},
      element("div", { class: "passage" }, element("span", {}, passages[result.index]), score(result.relevance_score)),
      bar(result.relevance_score / most),
    ))),
    commandBlock(path, body),
  ];
}

function value(id) {
  return document.getElementById(id).value;
}

function took(answer) {
  const model = answer.headers.get("x-inference-time");
  return `${duration(answer.ms / 1000)}${model === null ? "" : ` (model ${whole(Number(model))} ms)`}`;
}

function similarity(cosine) {
  return element(
    "div",
    { class: "similarity" },
    element("div", { class: "passage" }, element("span", {}, "Cosine similarity"), score(cosine)),
    bar(cosine),
  );
}

function numbers(vector, name) {
  const shown = vector.slice(0, SHOWN_NUMBERS).map((number) => number.toFixed(4));
  return element(
    "div",
    { class: "numbers" },
    element("span", { class: "soft small" }, name),
    element("code", {}, `[${shown.join(", ")}${vector.length > SHOWN_NUMBERS ? ", …" : ""}]`),
  );
}

function score(number) {
  return element("strong", {}, number.toFixed(4));
}

function bar(share) {
  const fill = element("span", {});
  fill.style.inlineSize = `${100 * Math.min(1, Math.max(0, share))}%`;
  return element("div", { class: "bar", "aria-hidden": "true" }, fill);
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, number, index) => sum + number * y[index], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
