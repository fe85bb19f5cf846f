// What was just tried, as a command line.

import { element } from "./dom.js";
import { address, key } from "./service.js";

/** A block with the command and a button that copies it. The key is not in it, but a variable in its place. */
export function commandBlock(path, body) {
  const text = command(path, body);
  const code = element("code", {}, text);
  const button = element("button", { type: "button", class: "plain" }, "Copy as curl");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text)) ? "Copied" : selected(code);
    setTimeout(() => (button.textContent = "Copy as curl"), 2000);
  });
  return element("div", { class: "command" }, element("pre", { tabindex: "0", "aria-label": "curl command" }, code), button);
}

export function command(path, body) {
  const lines = [`curl -s ${quoted(address(path))}`, `-H ${quoted("content-type: application/json")}`];
  if (key() !== null) lines.push('-H "authorization: Bearer $MILLRACE_API_KEY"');
  lines.push(`-d ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

/** As one word of a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function copied(text) {
  if (navigator.clipboard === undefined) return false; // browsers have it on https and on this machine only
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function selected(node) {
  getSelection().selectAllChildren(node);
  return document.execCommand("copy") ? "Copied" : "Selected: copy it";
}
