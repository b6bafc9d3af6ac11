// The documented API, and the token that it is called with.

const KEPT = "billing-console-token";
let askForToken = null;

/** A refusal: the API's problem+json, or the network's failure in the same shape. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title);
    this.document = document;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT),
  set: (value) => sessionStorage.setItem(KEPT, value),
  clear: () => sessionStorage.removeItem(KEPT),
};

/** What the token says of its holder; the service alone decides whether it is true. */
export function holder() {
  try {
    const part = token.get().split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (each) => each.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** `ask(why)` resolves to whether a token was given; calls that are refused with 401 wait for it. */
export function onUnauthorized(ask) {
  askForToken = ask;
}

/** Call the API; a call that lacks a valid token is made again once there is one. Throws Problem. */
export async function call(method, path, { body, key, signal } = {}) {
  let why = token.get() ? null : "";
  for (;;) {
    if (why !== null && !(await askForToken(why))) {
      throw new Problem({ title: "Not signed in", detail: "Sign in with a token to go on.", code: "unauthorized" });
    }
    const answer = await send(method, path, body, key, signal);
    if (answer.status !== 401) return read(answer);
    why = (await contentOf(answer)).detail || "The token is not accepted.";
  }
}

async function send(method, path, body, key, signal) {
  const headers = { Authorization: `Bearer ${token.get()}`, Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  try {
    return await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "The service cannot be reached",
      detail: "The request got no answer. Whether it had an effect is not known: look again before you repeat it.",
      code: "no_answer",
    });
  }
}

async function read(answer) {
  const content = await contentOf(answer);
  if (!answer.ok) throw new Problem(content);
  return content;
}

async function contentOf(answer) {
  try {
    return await answer.json();
  } catch {
    return {
      title: `The service answered ${answer.status}`,
      detail: "The answer could not be read.",
      status: answer.status,
      requestId: answer.headers.get("X-Request-Id"),
    };
  }
}

/** A fresh Idempotency-Key; `crypto.randomUUID` exists in secure contexts only. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "console-" + Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
}
