// What the figures of the overview mean: whether all is well, and if not what is wrong and where to look. No elements.

import { address } from "../router.js";
import { ago, count, grouped, label, lasting } from "../words.js";

const SLOW = 10 * 60;
const SILENT = 24 * 3600;
const UNRECONCILED = 8 * 24 * 3600;
const ORDER = ["bad", "warn", "info"];

/** `{ tone, title, points: [{ tone, words, href }] }` of an answer of GET /overview; `reconciledAt`: when all was last compared. */
export function judged(seen, reconciledAt) {
  const points = [...service(seen), ...events(seen), ...people(seen), ...jobs(seen, reconciledAt)];
  points.sort((one, other) => ORDER.indexOf(one.tone) - ORDER.indexOf(other.tone));
  const worst = points[0]?.tone;
  const serious = points.filter(({ tone }) => tone !== "info").length;
  if (!serious) return { tone: "good", title: "All is well", points };
  const title = worst === "bad" ? `${count(serious, "thing")} to look at now` : `${count(serious, "thing")} to look at`;
  return { tone: worst, title, points };
}

function* service({ stripe, redis }) {
  if (stripe.mode === "none") yield { tone: "bad", words: "No Stripe key is set: nothing can be read or repaired at Stripe." };
  if (stripe.circuit !== "closed") yield { tone: "bad", words: "Stripe does not answer. Webhooks are taken in all the same; what needs Stripe waits." };
  if (!redis) yield { tone: "bad", words: "Redis does not answer. Webhooks are stored, and the sweep will handle them once it is back." };
  else if (!redis.workers) yield { tone: "bad", words: "No worker is running: events are stored, and nobody handles them." };
}

function* events({ at, events: seen }) {
  const { oldestUnhandled: oldest, deadLetters, deadLettersAreCapped, lastDeliveryAt, paused } = seen;
  if (oldest && oldest.age > SLOW) {
    const tone = oldest.age > 6 * SLOW ? "bad" : "warn";
    yield { tone, words: `An event has waited for ${lasting(oldest.age)} (${oldest.type}).`, href: address("events", oldest.eventId) };
  }
  if (deadLetters) {
    const more = deadLettersAreCapped ? "more than " : "";
    yield { tone: "warn", words: `${more}${count(deadLetters, "dead letter")}: could not be handled, and nobody replayed or closed them.`, href: address("deadletters") };
  }
  const silent = lastDeliveryAt && (new Date(at) - new Date(lastDeliveryAt)) / 1000;
  if (silent > SILENT) yield { tone: "warn", words: `No webhook has arrived for ${lasting(silent)}: is the endpoint enabled at Stripe?` };
  if (!lastDeliveryAt) yield { tone: "info", words: "No webhook with a valid signature has arrived yet." };
  for (const each of paused) {
    yield { tone: "warn", words: `${each.type || "All events"} paused by ${each.by} ${ago(each.since)}: ${grouped(each.waiting)} waiting.` };
  }
}

function* people({ openFindings, unknownRefunds, unknownOperations }) {
  const { critical, high, medium, low } = openFindings;
  const findings = (severity, number) => ({ words: `${count(number, `${severity} finding`)} of the reconciliation.`, href: address("findings", null, { severity }) });
  if (critical) yield { tone: "bad", ...findings("critical", critical) };
  if (high) yield { tone: "warn", ...findings("high", high) };
  if (medium) yield { tone: "info", ...findings("medium", medium) };
  if (low) yield { tone: "info", ...findings("low", low) };
  if (unknownRefunds) yield { tone: "warn", words: `${count(unknownRefunds, "refund")} nobody knows of: asked for, and Stripe's answer never came.`, href: address("refunds", null, { state: "unknown" }) };
  if (unknownOperations) yield { tone: "warn", words: `${count(unknownOperations, "action")} asked of Stripe and not seen there yet; they are looked after.`, href: address("audit", null, { outcome: "unknown" }) };
}

function* jobs({ at, jobs: all }, reconciledAt) {
  for (const { job, last } of all) {
    if (["failed", "given_up"].includes(last?.state)) yield { tone: "bad", words: `${label(job)} failed ${last.finishedAt ? ago(last.finishedAt) : ""}: ${last.error || "no reason is known"}.` };
  }
  const age = reconciledAt && (new Date(at) - new Date(reconciledAt)) / 1000;
  if (age > UNRECONCILED) yield { tone: "warn", words: `The last reconciliation was ${ago(reconciledAt)}; one is due each Sunday.`, href: address("reconciliation") };
}
