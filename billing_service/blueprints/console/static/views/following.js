// Something that goes on elsewhere, looked at again and again until it is over.

import { Problem } from "../api.js";

const PATIENCE = 8;

/**
 * Load, draw, wait, until `over(answer)`; resolves to the last answer. While the service does not answer it is asked
 * again, each time later; `draw(answer, problem)` gets the last answer there was. Ends with AbortError of `signal`.
 */
export async function follow({ load, draw, over, signal, seconds = 1 }) {
  let answer = null;
  let failures = 0;
  for (;;) {
    let problem = null;
    try {
      answer = await load();
      failures = 0;
    } catch (error) {
      if (!(error instanceof Problem) || isFinal(error.document)) throw error;
      problem = error.document;
      failures += 1;
    }
    draw(answer, problem);
    if (!problem && over(answer)) return answer;
    await pause(Math.min(seconds * 2 ** failures, PATIENCE), signal);
  }
}

/** Whether asking again would get the same answer. */
function isFinal({ status }) {
  return status >= 400 && status < 500 && status !== 429;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("The view was left.", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** For what nobody waits for: its end by leaving the view is none of its faults. */
export function unlessLeft(promise, failed) {
  promise.catch((error) => {
    if (error.name !== "AbortError") failed(error);
  });
}
