// Questions to this gateway: relative to the page, so that they reach it behind a proxy's prefix too.

import { sentence } from "./words.js";

const KEY = "millrace-api-key";

/** The gateway has refused, or (with status 0) did not answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function key() {
  return sessionStorage.getItem(KEY);
}

export function remember(value) {
  sessionStorage.setItem(KEY, value);
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

export function address(path) {
  return new URL(path, document.baseURI).href;
}

/** The JSON answer of a GET, or of a POST where there is a body; how long it took in ms, and the headers. */
export async function ask(path, { body, take = [200] } = {}) {
  const headers = { accept: "application/json" };
  if (key() !== null) headers.authorization = `Bearer ${key()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const began = performance.now();
  let response, text;
  try {
    response = await fetch(address(path), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
    });
    text = await response.text();
  } catch {
    throw new Refused(0, "The gateway does not answer.");
  }
  const ms = performance.now() - began;
  const data = parsed(text);
  if (!take.includes(response.status)) throw new Refused(response.status, sentence(said(data) ?? `status ${response.status}`));
  return { data, ms, headers: response.headers };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The sentence of an error, in whichever dialect it came. */
function said(data) {
  for (const found of [data?.message, data?.error?.message, data?.error, data?.detail]) {
    if (typeof found === "string") return found;
  }
  return null;
}
