// A replay of many: how far it is while it runs, what became of each event, and its cancelling.

import { call } from "../api.js";
import { openAction } from "../confirming.js";
import { fill, h, redraw } from "../dom.js";
import { chip, facts, heading, moments, ourId, section, trouble, troubleOf, value } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { ago, count, grouped, label } from "../words.js";
import { eventAt, organization } from "./cells.js";
import { follow, inTurn, unlessLeft } from "./following.js";
import { progress } from "./progress.js";
import { batchChip, filterWords } from "./replaying.js";
import { BASE, stateChip } from "./states.js";

const OPEN = ["queued", "running", "cancelling"];
const ITEM_STATES = ["pending", "asked", "succeeded", "failed", "skipped", "refused", "left"];
const STOPPED = {
  canary_failed: "The first one failed, so no other was tried. Look at its error, remove the cause, and begin anew.",
  failures_in_row: "Too many failed in a row. Look at their errors, remove the cause, and begin anew.",
  lease_losses: "Its workers died with it again and again. Look at their logs.",
};

/** Fill the container with the batch that the address names, and follow it while it runs. */
export async function showBatch(container, context) {
  const { id, query, signal, go, say } = context;
  const path = `${BASE}/webhook/replay-batch/${id}`;
  const load = () => call("GET", path, { signal });
  const first = await load();
  const [state, items] = [h("div", { class: "parts" }), h("div", {})];
  fill(
    container,
    heading(`Replay of ${count(first.total, "event")}`, h("p", { class: "hint" }, h("a", { href: address("deadletters") }, "Dead letters"), `, ${filterWords(first.filter)}`)),
    state,
    section("items", "Events", items),
  );
  const shown = (batch, problem) => {
    state.dataset.state = batch.state;
    redraw(state, () => fill(state, drawn(batch, problem, context)));
  };
  shown(first, null);
  const list = await listing(items, {
    path: `${path}/items`,
    query,
    signal,
    go,
    caption: "Events of the replay",
    empty: "There are none.",
    filters: [{ name: "state", label: "State", options: ITEM_STATES.map((each) => [each, label(each)]) }],
    columns: columns(() => !OPEN.includes(state.dataset.state)),
  });
  if (!OPEN.includes(first.state)) return;
  const reload = inTurn(() => list.reload());
  let done = first.done;
  const draw = (batch, problem) => {
    shown(batch, problem);
    if (batch.done !== done) reload();
    done = batch.done;
  };
  const followed = follow({ load, draw, first, over: (batch) => !OPEN.includes(batch.state), signal }).then((batch) => {
    reload();
    say(`The replay has ended: ${label(batch.state).toLowerCase()}.`);
  });
  unlessLeft(followed, (error) => fill(state, troubleOf(error)));
}

const columns = (isOver) => [
  { title: "Event", cell: (each) => eventAt(address("events", each.eventId), each) },
  { title: "State", cell: (each) => h("span", { class: "stack" }, h("span", {}, isOver() && each.state === "pending" ? chip("not tried") : stateChip(each.state)), why(each)) },
  { title: "Organization", cell: organization },
  { title: "Ended", cell: ({ endedAt }) => moments(endedAt) },
];

function why({ outcome, code, errorClass, errorMessage }) {
  if (errorClass) return h("span", { class: "words" }, `${errorClass}: ${errorMessage}`);
  return (code || outcome) && h("span", { class: "hint" }, label(code || outcome));
}

function drawn(batch, problem, context) {
  const cancellable = ["queued", "running"].includes(batch.state) && context.can("replay:create");
  return [
    problem && trouble(problem),
    section(
      "progress",
      "Progress",
      h("p", { class: "line" }, batchChip(batch), told(batch)),
      progress({ done: batch.done, total: batch.total, words: `${grouped(batch.done)} of ${grouped(batch.total)} are at their end` }),
      h("ul", { class: "counts" }, counts(batch)),
      cancellable && h("div", { class: "buttons" }, h("button", { type: "button", id: "cancel-batch", class: "quiet", onclick: () => cancel(batch) }, "Cancel the rest")),
    ),
    section("known", "What is known", known(batch)),
  ];
}

function told({ state, stopReason, waitingFor, waitingUntil, cancelledBy }) {
  if (stopReason) return h("span", {}, STOPPED[stopReason] || label(stopReason));
  if (waitingFor) return h("span", {}, `It waits: ${label(waitingFor).toLowerCase()}. It goes on by itself`, waitingUntil && ` ${ago(waitingUntil)}`, ".");
  if (state === "queued") return h("span", {}, "It waits for a worker.");
  if (cancelledBy) return h("span", {}, `Cancelled by ${cancelledBy}. What was replayed until then stays replayed.`);
  return null;
}

function counts({ succeeded, failed, skipped, refused }) {
  const each = (number, words, tone) => h("li", {}, chip(grouped(number), number ? tone : "calm"), " ", words);
  return [
    each(succeeded, "succeeded", "good"),
    each(failed, "failed", "bad"),
    each(skipped, "handled by others meanwhile", "info"),
    each(refused, "refused", "warn"),
  ];
}

function known(batch) {
  return h("div", { class: "twofold" }, facts([
    ["Begun by", batch.actor],
    ["Note", value(batch.note)],
    ["Which", filterWords(batch.filter)],
    ["Selected", moments(batch.selectedAt)],
    ["Begun", moments(batch.startedAt)],
    ["Ended", moments(batch.endedAt)],
    ["Stops after", `${count(batch.stopAfter, "failure")} in a row`],
    ["Batch", ourId(batch.batchId)],
  ]));
}

function cancel(batch) {
  openAction({
    title: "Cancel the rest",
    about: h("strong", {}, `Replay of ${count(batch.total, "event")}`),
    explanation: "The one at hand comes to its end, no other is begun. What was replayed stays replayed.",
    danger: true,
    path: `${BASE}/webhook/replay-batch/${batch.batchId}/cancel`,
    confirm: "Cancel the rest",
    foretold: ({ changed }) => h("p", {}, changed.length ? `${count(batch.total - batch.done, "event")} will not be replayed, or fewer if more are done until then.` : "It is being cancelled already."),
    done: ({ state }) => h("p", {}, state === "cancelled" ? "Cancelled." : "The event at hand comes to its end, then it is cancelled."),
  });
}
