// Something that goes on elsewhere, looked at again and again until it is over.

import { Problem } from "../api.js";

const PATIENCE = 8;

/**
 * Load, draw, wait, until `over(answer)`; resolves to the last answer. While the service does not answer it is asked
 * again, each time later; `draw(answer, problem)` gets the last answer there was, which is `first` at the beginning.
 * Ends with AbortError of `signal`.
 */
export async function follow({ load, draw, over, signal, first = null, seconds = 1 }) {
  let answer = first;
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

/** `again()` has `work` done once more, after what is under way: the last answer is the one that is shown. */
export function inTurn(work) {
  let underWay = null;
  let wanted = false;
  const turn = async () => {
    do {
      wanted = false;
      await work();
    } while (wanted);
  };
  return () => {
    wanted = true;
    underWay ??= turn()
      .catch(() => {})
      .finally(() => {
        underWay = null;
      });
    return underWay;
  };
}

/** For what nobody waits for: its end by leaving the view is none of its faults. */
export function unlessLeft(promise, failed) {
  promise.catch((error) => {
    if (error.name !== "AbortError") failed(error);
  });
}
