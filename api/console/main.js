// The page: looks at the gateway every two seconds while somebody looks at the page.

import { hideWorkers, note, showModelList, showModels, showWorkers } from "./deployment.js";
import { element, show } from "./dom.js";
import { Refused, ask, forget, key, remember } from "./service.js";
import { offer, ready } from "./tryout.js";
import { counted } from "./words.js";

const EVERY_MS = 2000;
/** When it has refused, or does not answer, it is asked more and more rarely. */
const LONGEST_MS = 15000;

let timer = null;
let looking = false;
let lookAgain = false;
let failures = 0;

async function look() {
  if (looking) {
    lookAgain = true;
    return;
  }
  looking = true;
  lookAgain = false;
  clearTimeout(timer);
  try {
    await lookOnce();
    failures = 0;
  } catch (error) {
    failures += 1;
    await explain(error);
  } finally {
    looking = false;
    if (!document.hidden) timer = setTimeout(look, lookAgain ? 0 : Math.min(LONGEST_MS, EVERY_MS * (1 + failures)));
  }
}

async function lookOnce() {
  const { data: status } = await ask("v1/status");
  note(status);
  showModels(status);
  showWorkers(status);
  offer(status.models);
  document.getElementById("version").textContent = status.version;
  tell(status.problems);
  askForKey(key() === null ? null : "The key is accepted.");
}

/** What a refusal means for whoever looks at the page. */
async function explain(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 403) await showLess(error);
  else if (error.status === 401) await askWhy(error);
  else tell([`${error.message} The page shows what was last known, and goes on asking.`], "No answer");
}

/** A key that is not an operator's: its models can be tried all the same. */
async function showLess(error) {
  hideWorkers();
  try {
    const { data } = await ask("v1/models");
    showModelList(data.data);
    offer(data.data.map((model) => ({
      name: model.id,
      operations: model.capabilities,
      kinds: model.dimensions ? ["dense"] : [],
    })));
    tell([], "Limited view");
    askForKey(`With this key the models can be tried. The state of the deployment is for operators. ${error.message}`);
  } catch (other) {
    tell([other.message], "Refused");
    askForKey(other.message);
  }
}

/** Without a key only the probes answer. */
async function askWhy(error) {
  hideWorkers();
  offer([], "A key is needed");
  show(document.getElementById("models"), element("p", { class: "soft" }, "The models are shown to whoever has a key."));
  askForKey(key() === null ? "This service asks for an API key." : `The key was refused. ${error.message}`);
  try {
    const { data } = await ask("ready", { take: [200, 503] });
    const missing = data.missing_models.map((model) => `No worker that is ready runs ${model}.`);
    const found = [
      data.redis ? null : "Redis cannot be reached.",
      data.wedged_workers ? `${counted(data.wedged_workers, "worker")} wedged.` : null,
    ];
    tell([...found.filter(Boolean), ...missing], "Key needed");
  } catch (other) {
    tell([other.message], "No answer");
  }
}

function tell(problems, otherwise = null) {
  const section = document.getElementById("problems");
  section.hidden = problems.length === 0;
  show(section.querySelector("ul"), problems.map((problem) => element("li", {}, problem)));
  const state = document.getElementById("state");
  const text = otherwise ?? (problems.length ? counted(problems.length, "problem") : "All is well");
  if (state.textContent !== text) state.textContent = text;
  state.className = problems.length ? "badge bad" : otherwise ? "badge" : "badge good";
  document.title = problems.length ? `(!) ${text} · Millrace` : "Millrace";
}

/** Show the field for the key with a sentence; nothing where no key is asked for. */
function askForKey(message) {
  const section = document.getElementById("key");
  section.hidden = message === null;
  document.getElementById("key-forget").hidden = key() === null;
  const shown = document.getElementById("key-message");
  if (shown.textContent !== (message ?? "")) shown.textContent = message ?? "";
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("key-value");
  remember(field.value.trim());
  field.value = "";
  failures = 0;
  look();
});

document.getElementById("key-forget").addEventListener("click", () => {
  forget();
  look();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else look();
});

ready((error) => {
  if (error.status !== 401) return;
  explain(error);
  document.getElementById("key-value").focus();
});
offer([], "Asking the gateway…");
look();
