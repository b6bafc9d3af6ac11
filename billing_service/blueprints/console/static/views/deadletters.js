// Dead letters: what failed alike, each of them, and the replays of many.

import { call } from "../api.js";
import { fill, h } from "../dom.js";
import { chip, dotted, heading, moments, part, scrolled, section, table } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { count, grouped, label } from "../words.js";
import { showBatch } from "./batch.js";
import { eventAt, organization } from "./cells.js";
import { setOf } from "./downloads.js";
import { showEvent } from "./event.js";
import { batchChip, filterWords, replayMany } from "./replaying.js";
import { BASE, REASON_OPTIONS, UNFIT, reasonWords } from "./states.js";

const FILTERS = [
  { name: "type", label: "Type", type: "text" },
  { name: "reason", label: "Reason", options: REASON_OPTIONS },
  { name: "orgId", label: "Organization id", type: "text" },
  { name: "fingerprint", label: "Fingerprint", type: "text" },
  { name: "from", label: "Dead from", type: "moment" },
  { name: "to", label: "Until", type: "moment" },
];
const NAMES = FILTERS.map(({ name }) => name);
const GROUPS = 12;
const BATCHES = 5;

export const view = { name: "deadletters", title: "Dead letters", needs: "deadletter:read", show };

/** `#/deadletters/batches` lists the replays of many, `…/<24 hex>` is one of them, `…/evt_…` a letter. */
async function show(container, context) {
  if (context.id === "batches") return showBatches(container, context);
  if (/^[0-9a-f]{24}$/i.test(context.id || "")) return showBatch(container, context);
  if (context.id) return showEvent(container, context);
  return showAll(container, context);
}

async function showAll(container, context) {
  const { query, signal, go } = context;
  const asked = setOf(query, NAMES);
  const [groups, letters, batches] = [h("div", {}), h("div", {}), h("div", {})];
  fill(
    container,
    heading("Dead letters", h("p", { class: "hint" }, "Events that no attempt is left for. Nothing is lost: each is kept until somebody replays or closes it.")),
    section("alike", "What failed alike", groups),
    section("letters", "Letters", letters),
    section("batches", "Replays of many", batches),
  );
  const load = (path, parameters) => call("GET", `${BASE}/${path}`, { query: parameters, signal });
  await Promise.all([
    part(groups, () => load("dead-letters/groups", { ...asked, limit: GROUPS }), (found) => groupsDrawn(found, asked, context)),
    listing(letters, {
      path: `${BASE}/dead-letters`,
      query,
      signal,
      go,
      caption: "Dead letters",
      empty: "There are none: every event was handled.",
      filters: FILTERS,
      buttons: allButton(asked, context),
      columns: COLUMNS,
    }),
    part(batches, () => load("webhook/replay-batch", { limit: BATCHES }), batchesDrawn),
  ]);
}

const COLUMNS = [
  { title: "Event", cell: (each) => eventAt(address("deadletters", each.eventId), each), sort: ({ type }) => type },
  { title: "What failed", cell: failed, wide: true },
  { title: "Organization", cell: organization },
  { title: "Attempts", cell: ({ attempts }) => String(attempts), sort: ({ attempts }) => attempts },
  { title: "Died", cell: ({ deadAt }) => moments(deadAt), sort: ({ deadAt }) => deadAt },
];

function failed({ reason, lastError, atStripe }) {
  return h(
    "span",
    { class: "stack" },
    h("strong", {}, reasonWords(reason)),
    lastError && h("span", { class: "words brief" }, `${lastError.errorClass}: ${lastError.message}`),
    !atStripe && h("span", { class: "hint" }, "Stripe does not keep it any more; it is replayed from what is stored."),
  );
}

function allButton(asked, context) {
  if (!context.can("replay:create")) return null;
  const words = Object.keys(asked).length ? "Replay all that match" : "Replay all";
  return h("button", { type: "button", id: "replay-all", class: "quiet", onclick: () => replayMany(selected(asked), filterWords(selected(asked)), context) }, words);
}

/** The list's filter as a batch takes it: there `from` and `to` could be of the arrival, too. */
function selected({ from, to, ...same }) {
  return { ...same, ...(from ? { deadFrom: from } : {}), ...(to ? { deadTo: to } : {}) };
}

function groupsDrawn({ items, total, letters, isCapped }, asked, context) {
  if (!items.length) return h("p", { class: "empty" }, Object.keys(asked).length ? "Nothing matches." : "Nothing is dead.");
  const words = `${isCapped ? "More than " : ""}${count(letters, "letter")} in ${count(total, "group")}${total > items.length ? `, the largest ${items.length} of them` : ""}.`;
  return [h("p", { class: "hint" }, words), h("ul", { class: "groups" }, items.map((group) => groupDrawn(group, asked, context)))];
}

function groupDrawn(group, asked, context) {
  const { fingerprint, type, count: number, reasons } = group;
  // What has no fingerprint was never tried; its reason is what it has in common.
  const mine = { ...asked, type, ...(fingerprint ? { fingerprint } : { reason: reasons[0] }) };
  const unfit = reasons.length > 0 && reasons.every((each) => UNFIT.includes(each));
  const replay = () => replayMany(selected(mine), filterWords(selected(mine)), context);
  return h(
    "li",
    {},
    h("p", { class: "number" }, h("strong", {}, grouped(number)), h("span", { class: "hint" }, number === 1 ? "letter" : "letters")),
    h(
      "div",
      { class: "what" },
      h("p", {}, h("strong", {}, dotted(type)), " ", reasons.map((each) => chip(reasonWords(each), "bad"))),
      fingerprint && h("p", { class: "words" }, h("code", {}, fingerprint)),
      h("p", { class: "hint" }, "died ", moments(group.firstAt, { brief: true }), number > 1 && [" to ", moments(group.lastAt, { brief: true })], group.codeVersions.length > 0 && `, with the code ${group.codeVersions.join(", ")}`),
    ),
    h(
      "div",
      { class: "buttons" },
      h("a", { class: "button quiet", href: address("deadletters", null, mine), "aria-label": `Show ${grouped(number)} of ${type}` }, "Show"),
      context.can("replay:create") && !unfit && h("button", { type: "button", class: "quiet", onclick: replay, "aria-label": `Replay ${grouped(number)} of ${type}` }, `Replay ${grouped(number)}`),
    ),
  );
}

function batchesDrawn({ items, nextCursor }) {
  if (!items.length) return h("p", { class: "empty" }, "Nobody has replayed many at once yet.");
  const rows = items.map((each) => BATCH_COLUMNS.map(({ cell }, position) => (position ? cell(each) : h("a", { href: address("deadletters", each.batchId) }, cell(each)))));
  const more = nextCursor && h("p", {}, h("a", { href: address("deadletters", "batches") }, "All of them"));
  return [scrolled("Replays, as a table", table("Replays of many", BATCH_COLUMNS.map(({ title }) => title), rows)), more];
}

const BATCH_COLUMNS = [
  { title: "Begun", cell: ({ createdAt }) => moments(createdAt) },
  { title: "State", cell: batchChip },
  { title: "Done", cell: ({ done, total, failed: number }) => `${grouped(done)} of ${grouped(total)}${number ? `, ${grouped(number)} failed` : ""}` },
  { title: "Which", cell: ({ filter }) => h("span", { class: "words" }, filterWords(filter)), wide: true },
  { title: "By", cell: ({ actor, note }) => h("span", { class: "stack" }, actor, note && h("span", { class: "hint" }, note)), wide: true },
];

async function showBatches(container, { query, signal, go }) {
  const results = h("div", { class: "panel" });
  fill(container, heading("Replays of many", h("p", {}, h("a", { href: address("deadletters") }, "Dead letters"))), results);
  await listing(results, {
    path: `${BASE}/webhook/replay-batch`,
    query,
    signal,
    go,
    caption: "Replays of many",
    empty: "Nobody has replayed many at once yet.",
    filters: [{ name: "state", label: "State", options: ["queued", "running", "cancelling", "succeeded", "partly_failed", "stopped", "cancelled"].map((each) => [each, label(each)]) }],
    link: ({ batchId }) => address("deadletters", batchId),
    columns: BATCH_COLUMNS,
  });
}
