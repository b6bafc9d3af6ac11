// One event: what became of it, each attempt, its payload, and what can be done.

import { call } from "../api.js";
import { fill, h } from "../dom.js";
import { chip, dotted, facts, heading, moments, scrolled, section, stripeLink, table, value } from "../pieces.js";
import { address, show as again } from "../router.js";
import { ago, count, label } from "../words.js";
import { organization } from "./cells.js";
import { closeLetter, replayOne } from "./replaying.js";
import { BASE, SOURCES, UNFIT, eventChip, reasonAdvice, reasonWords } from "./states.js";

/** Fill the container with the event that the address names. */
export async function showEvent(container, context) {
  const event = await call("GET", `${BASE}/events/${encodeURIComponent(context.id)}`, { signal: context.signal });
  fill(
    container,
    heading(dotted(event.type), h("p", { class: "hint line" }, eventChip(event), stripeLink(event.eventId, event.livemode), asked(event))),
    verdict(event, context),
    section("known", "What is known", known(event)),
    section("attempts", "Attempts", attempts(event)),
    section("payload", "Payload", payload(event)),
  );
}

function asked({ replay }) {
  return replay && chip(`a replay was asked for by ${replay.actor || "somebody"}`, "info");
}

/** What became of it, and the buttons. */
function verdict(event, context) {
  const [tone, title, words] = told(event);
  const buttons = actions(event, context);
  return h(
    "section",
    { class: `verdict ${tone}`, "aria-labelledby": "became" },
    h("h2", { id: "became" }, title),
    event.lastError && event.state !== "succeeded" && h("p", {}, h("strong", {}, event.lastError.errorClass), ": ", event.lastError.message),
    words && h("p", {}, words),
    buttons.length > 0 && h("div", { class: "buttons" }, buttons),
  );
}

function told(event) {
  const { state, outcome, reason } = event;
  if (state === "dead") return ["bad", `Dead: ${reasonWords(reason)}`, reasonAdvice(reason)];
  if (state === "closed") return ["calm", "Closed", closedWords(event)];
  if (state === "failed") return ["warn", "It failed, and is tried again", event.nextAttemptAt && `The next attempt is ${ago(event.nextAttemptAt)}.`];
  if (state === "succeeded") return ["good", { applied: "Applied", superseded: "Superseded by a newer one", ignored: "Ignored: nothing had to be done" }[outcome] || "Succeeded", null];
  return ["info", state === "processing" ? "It is being handled" : "It waits for a worker", null];
}

function closedWords({ closed }) {
  return closed && [`By ${closed.by}, `, moments(closed.at, { brief: true }), closed.note && `: ${closed.note}`];
}

function actions(event, context) {
  const { can } = context;
  const forced = ["succeeded", "closed"].includes(event.state);
  const replayable = can("replay:create") && event.state !== "processing" && !UNFIT.includes(event.reason);
  const button = (id, words, quiet, open) => h("button", { type: "button", id, class: quiet ? "quiet" : "", onclick: open }, words);
  return [
    replayable && button("replay", forced ? "Handle it again" : "Replay", forced, () => replayOne(event, context, again)),
    can("deadletter:close") && event.state === "dead" && button("close", "Close", true, () => closeLetter(event, again)),
    event.orgId && can("customer:read") && h("a", { class: "button quiet", href: address("customer", event.orgId) }, "Show the customer"),
  ].filter(Boolean);
}

function attempts({ history, attempts: number }) {
  if (!history.length) return h("p", { class: "empty" }, "Nobody has tried yet.");
  const rows = [...history].reverse().map((line) => [
    moments(line.at),
    h("span", { class: "stack" }, h("span", {}, label(line.source || "worker")), line.actor && h("span", { class: "hint" }, line.actor)),
    result(line),
    h("span", { class: "stack" }, h("span", {}, `${line.milliseconds ?? 0} ms`), line.codeVersion && h("code", {}, line.codeVersion)),
  ]);
  return [
    h("p", { class: "hint" }, `${count(number, "attempt")} counted; the newest is shown first${history.length < number ? `, only the last ${history.length} are kept` : ""}.`),
    scrolled("Attempts, as a table", table("Attempts", ["When", "By", "Result", "Took, with code"], rows)),
  ];
}

function result({ outcome, errorClass, errorMessage }) {
  if (!errorClass) return chip(label(outcome || "none"), "good");
  return h("span", { class: "stack" }, chip(errorClass, "bad"), h("span", { class: "words" }, errorMessage));
}

function known(event) {
  const source = SOURCES.find(([name]) => name === event.source)?.[1] || label(event.source || "none");
  return h("div", { class: "twofold" }, facts([
    ["Organization", organization(event)],
    ["Customer", value(event.stripeCustomerId)],
    ["Subscription", value(event.stripeSubscriptionId)],
    ["Created at Stripe", moments(event.created)],
    ["Still at Stripe", event.atStripe ? "yes" : "no: older than 30 days"],
    ["Received", moments(event.receivedAt)],
    ["Source", source],
    ["API version", value(event.apiVersion)],
    ["Mode", event.livemode ? "live" : "test"],
    ...alike(event),
    ...times(event),
  ]));
}

function alike({ fingerprint, state, type, deadVersion }) {
  if (!fingerprint) return [];
  const like = state === "dead" ? h("a", { href: address("deadletters", null, { fingerprint, type }) }, "Show those that failed alike") : null;
  return [["Fingerprint", h("span", { class: "stack" }, h("code", {}, fingerprint), like)], ["Died of the code", value(deadVersion)]];
}

function times(event) {
  return [
    ["Dead since", event.deadAt],
    ["Next attempt", event.nextAttemptAt],
    ["Waits for an outage since", event.deferredSince],
    ["Held until", event.leaseUntil],
    ["Kept until", event.expiresAt],
  ]
    .filter(([, at]) => at)
    .map(([name, at]) => [name, moments(at)]);
}

function payload({ payload: content, payloadMasked }) {
  if (content === null) return h("p", { class: "empty" }, "It was erased.");
  const text = JSON.stringify(content, null, 2);
  const words = payloadMasked
    ? "Personal data are masked: your role lacks payload:read. Secrets are masked for everybody."
    : "As Stripe sent it. Secrets are masked for everybody.";
  return [
    h("p", { class: "hint" }, words),
    h("pre", { class: "payload", tabindex: "0", role: "region", "aria-label": "Payload as JSON" }, text),
  ];
}
