// Replaying one event, or many, and closing a dead letter: the dialogs, and what becomes of what they began.

import { call } from "../api.js";
import { choice, field, openAction } from "../confirming.js";
import { byId, fill, h } from "../dom.js";
import { chip, moments, trouble, troubleOf } from "../pieces.js";
import { address } from "../router.js";
import { count, label, plain } from "../words.js";
import { changesTold } from "./changes.js";
import { follow, unlessLeft } from "./following.js";
import { BASE, reasonWords, stateChip } from "./states.js";

const SAMPLE = 5;

/** Open the dialog that replays one event; `changed` is called when it was replayed. */
export function replayOne(event, { signal, say }, changed) {
  const forced = ["succeeded", "closed"].includes(event.state);
  openAction({
    title: forced ? "Handle the event again" : "Replay the event",
    about: [h("strong", {}, event.type), " ", h("code", {}, event.eventId)],
    explanation: "A worker handles it as if it had just arrived. What Stripe shows then is what is written.",
    path: `${BASE}/webhook/replay`,
    inputs: forced ? [choice("checkbox", "force", "true", `Although it is ${event.state}`, true)] : null,
    body: (form) => ({ eventId: event.eventId, ...(form.elements.force?.checked ? { force: true } : {}) }),
    confirm: `Replay ${event.eventId}`,
    foretold,
    done: (answer) => progressOf(answer, { signal, say, changed }),
  });
}

function foretold(answer) {
  if (answer.outcome === "dead") {
    return [
      h("p", {}, `It would fail again: ${reasonWords(answer.reason).toLowerCase()}.`),
      answer.detail && h("p", { class: "words" }, answer.detail),
    ];
  }
  if (answer.outcome === "ignored") return h("p", {}, "It would be settled: nothing has to be done for it.");
  const { previous, updated } = answer;
  return [changesTold({ previous, updated, changed: answer.changes.map((each) => each.field) }), signals(answer)];
}

function signals({ signals: names }) {
  if (!names.length) return null;
  return h("p", { class: "hint" }, "Others would be told: ", names.map((name) => label(name).toLowerCase()).join(", "), ".");
}

/** How a replay gets on, until it is at its end. */
function progressOf({ statusUrl }, { signal, say, changed }) {
  const node = h("div", { class: "following" }, h("p", {}, "It was asked for. A worker takes it up …"));
  const draw = (replay, problem) => fill(node, replay && replayTold(replay), problem && trouble(problem));
  const over = ({ state }) => state === "succeeded" || state === "failed";
  const followed = follow({ load: () => call("GET", statusUrl, { signal }), draw, over, signal, seconds: 0.7 }).then((replay) => {
    say(replay.state === "succeeded" ? "The replay succeeded." : "The replay failed.");
    changed();
  });
  unlessLeft(followed, (error) => fill(node, troubleOf(error)));
  return node;
}

function replayTold({ state, outcome, errorClass, errorMessage, nextAttemptAt }) {
  const words = {
    queued: "It waits for a worker …",
    running: "It is being handled …",
    succeeded: `Done: ${outcome || "succeeded"}.`,
    failed: "It failed again. Nothing was written.",
    waiting: "Stripe or the database does not answer. It goes on by itself",
  }[state];
  return [
    h("p", {}, words, state === "waiting" && nextAttemptAt && [" at ", moments(nextAttemptAt, { brief: true }), "."]),
    errorClass && h("p", { class: "words" }, chip(errorClass, "bad"), " ", errorMessage),
  ];
}

/** Open the dialog that closes a dead letter. */
export function closeLetter(event, changed) {
  openAction({
    title: "Close the dead letter",
    about: [h("strong", {}, event.type), " ", h("code", {}, event.eventId)],
    explanation: "It is hidden and never tried again by itself. Its payload is kept for 90 days, its id for good: delivered again, it is recognised.",
    danger: true,
    method: "DELETE",
    path: `${BASE}/dead-letters/${encodeURIComponent(event.eventId)}`,
    noteIn: "query",
    confirm: `Close the letter ${event.eventId}`,
    foretold: ({ changed: fields, expiresAt }) =>
      fields.length ? h("p", {}, "It will be closed; the payload is kept until then: ", moments(expiresAt || inDays(90), { brief: true }), ".") : h("p", {}, "It is closed already: nothing would change."),
    done: ({ changed: fields }) => h("p", {}, fields.length ? "Closed." : "It was closed already."),
    changed,
  });
}

function inDays(days) {
  return new Date(Date.now() + days * 86_400_000).toISOString();
}

/**
 * Open the dialog that replays all that match `filter`, which `words` says in words: counted first, its number typed,
 * then followed where `go` leads.
 */
export function replayMany(filter, words, { go, say }) {
  openAction({
    title: "Replay all that match",
    about: words,
    explanation: "The one that Stripe created first goes alone; if it fails no other is tried. Then the rest, in the order of their creation.",
    path: `${BASE}/webhook/replay-batch`,
    inputs: [
      field(
        "Stop after so many failures in a row",
        { id: "stopAfter", type: "number", min: "1", max: "1000", value: "5", required: true, inputmode: "numeric" },
      ),
    ],
    body: (form) => ({ ...filter, stopAfter: Number(form.elements.stopAfter.value) }),
    request: ({ stopAfter }, { selection, count: confirm }) => ({ selection, confirm, stopAfter }),
    typed: ({ count: number }) => (number > 1 ? String(number) : null),
    confirm: (answer) => (answer ? `Replay ${count(answer.count, "event")}` : "Replay"),
    nothing: (answer) => !answer.count && [h("p", {}, "Nothing that matches can be replayed."), unfit(answer)],
    foretold: selected,
    done: ({ count: number }) => h("p", {}, `${count(number, "event")} will be replayed.`),
    changed: ({ batchId }) => {
      byId("action-dialog").close();
      say("The replay has begun.");
      go(address("deadletters", batchId));
    },
  });
}

function selected(answer) {
  const shown = answer.sample.slice(0, SAMPLE);
  return [
    h("p", {}, `${count(answer.count, "event")} will be replayed`, answer.isLimited ? ", the first that Stripe created; more match." : "."),
    unfit(answer),
    h("p", { class: "hint" }, answer.count > shown.length ? `The first ${shown.length} of them:` : "They are:"),
    h("ul", { class: "lines sample" }, shown.map((each) => h("li", {}, each.type, " ", h("code", {}, each.eventId), ", ", moments(each.created, { brief: true })))),
  ];
}

function unfit({ unfit: number }) {
  if (!number) return null;
  return h("p", { class: "hint" }, `${count(number, "other")} ${number === 1 ? "is" : "are"} left out: of the wrong mode or account, or of a type that nothing handles.`);
}

/** A batch's state as a chip, and its filter in words. */
export function batchChip({ state }) {
  return stateChip(state);
}

export function filterWords(filter) {
  const names = { orgId: "organization", receivedFrom: "received from", receivedTo: "received until", deadFrom: "dead from", deadTo: "dead until" };
  const told = Object.entries(filter)
    .filter(([name, content]) => content !== null && name !== "stopAfter" && !(name === "state" && content === "dead"))
    .map(([name, content]) => (name === "reason" ? reasonWords(content).toLowerCase() : `${names[name] || label(name).toLowerCase()} ${plain(content)}`));
  return told.length ? `${label(filter.state || "dead")}: ${told.join(", ")}` : "All dead letters";
}
