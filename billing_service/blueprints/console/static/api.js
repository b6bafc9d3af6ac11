// The documented API: how it is called, and how its refusals come back. Who calls it is credentials.js's.

import * as credentials from "./credentials.js";
import { clockSays } from "./words.js";

let askToSignIn = null;

/** A refusal: the API's problem+json, or the network's failure in the same shape. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title);
    this.document = document;
  }
}

/** `ask(why)` resolves to whether somebody signed in; calls that are refused with 401 wait for it. */
export function onUnauthorized(ask) {
  askToSignIn = ask;
}

/**
 * Call the API and answer what it answers. A call that lacks a valid sign-in is made again once there is one.
 * `query` is an object or URLSearchParams; `key` the Idempotency-Key. Throws Problem, or AbortError of `signal`.
 */
export async function call(method, path, { query, ...how } = {}) {
  const answer = await answered(method, addressed(path, query), how);
  return answer.status === 204 ? null : contentOf(answer);
}

/** Save what a path answers as a file (`format=csv`): the name is the answer's own, or `name`. */
export async function download(path, { query, name, signal } = {}) {
  const answer = await answered("GET", addressed(path, query), { signal });
  const told = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
  const address = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = told?.[1] || name;
  link.click();
  // The download has begun when the click returns, but reads the blob afterwards.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function addressed(path, query) {
  const text = new URLSearchParams(query || {}).toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

async function answered(method, path, how) {
  let why = credentials.present() ? null : "";
  let renewed = false;
  for (;;) {
    if (why !== null && !(await askToSignIn(why))) {
      throw new Problem({ title: "Not signed in", detail: "Sign in to go on.", code: "unauthorized", status: 401 });
    }
    const sentAs = credentials.mark();
    const answer = await send(method, path, how);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status !== 401) throw new Problem(problem);
    why = null;
    if (renewed || !(await credentials.renew(sentAs))) why = problem.detail || "The sign-in is not accepted any more.";
    renewed = why === null;
  }
}

/** One request, with the sign-in that there is; throws Problem if there is no answer at all. */
export async function send(method, path, { body, key, signal } = {}) {
  const headers = { Accept: "application/json", ...credentials.headers(method) };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  try {
    const answer = await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: credentials.pasted() ? "omit" : "same-origin",
    });
    clockSays(answer.headers.get("Date"));
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "The service cannot be reached",
      detail: "The request got no answer. Whether it had an effect is not known: look again before you repeat it.",
      code: "no_answer",
    });
  }
}

async function contentOf(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(unreadable(answer));
  }
}

async function problemOf(answer) {
  try {
    return { requestId: answer.headers.get("X-Request-Id"), ...(await answer.json()) };
  } catch {
    return unreadable(answer);
  }
}

function unreadable(answer) {
  return {
    title: `The service answered ${answer.status}`,
    detail: "The answer could not be read.",
    status: answer.status,
    requestId: answer.headers.get("X-Request-Id"),
  };
}

/** A fresh Idempotency-Key or id of a refund; `crypto.randomUUID` exists in secure contexts only. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "console-" + Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
}
