// Who did what, to whom, when and why.

import { fill, h } from "../dom.js";
import { chip, facts, heading, moments, ourId, value } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { label } from "../words.js";
import { organization } from "./cells.js";
import { changesOf, listed } from "./changes.js";
import { csvButton, setOf } from "./downloads.js";
import { BASE, stateChip } from "./states.js";

const ACTIONS = {
  sync: "Sync",
  link: "Link a subscription",
  cancel: "Cancel",
  refund: "Refund",
  bump: "Set the plan",
  dispute_credit: "Credit a dispute",
  replay: "Replay an event",
  replay_batch: "Replay many events",
  cancel_replay_batch: "Cancel a replay of many",
  close_dead_letter: "Close a dead letter",
  acknowledge_finding: "Acknowledge a finding",
  reconcile: "Run a reconciliation",
  create_user: "Create a user",
  change_user: "Change a user",
};
const FILTERS = [
  { name: "action", label: "Action", options: Object.entries(ACTIONS) },
  { name: "outcome", label: "Outcome", options: ["pending", "succeeded", "failed", "unknown"].map((each) => [each, label(each)]) },
  { name: "actor", label: "Who", type: "text" },
  { name: "orgId", label: "Organization id", type: "text" },
  { name: "target", label: "Target", type: "text" },
  { name: "requestId", label: "Request id", type: "text" },
  { name: "from", label: "From", type: "moment" },
  { name: "to", label: "Until", type: "moment" },
];

export const view = { name: "audit", title: "Audit", needs: "audit:read", show };

async function show(container, { query, signal, go, say }) {
  const results = h("div", { class: "panel" });
  fill(container, heading("Audit log", h("p", { class: "hint" }, "Each action is written down twice: when it is asked for, and when it has come to its end. Nothing is ever changed or removed.")), results);
  await listing(results, {
    path: `${BASE}/audit`,
    query,
    signal,
    go,
    caption: "Audit log",
    empty: "Nobody has done anything yet.",
    filters: FILTERS,
    buttons: csvButton({ path: `${BASE}/audit`, parameters: () => setOf(query, FILTERS.map(({ name }) => name)), name: "audit", say, signal }),
    columns: [
      { title: "When", cell: ({ at }) => moments(at), sort: ({ at }) => at },
      { title: "Who", cell: who, sort: ({ actor }) => actor },
      { title: "What", cell: what, sort: ({ action }) => action },
      { title: "To what", cell: target, sort: (each) => each.target },
      { title: "Why, and what came of it", cell: why, wide: true },
    ],
  });
}

function who({ actor, role }) {
  return h("span", { class: "stack" }, h("span", {}, actor), role && h("span", { class: "hint" }, role));
}

function what({ action, phase, outcome }) {
  return h("span", { class: "stack" }, h("strong", {}, ACTIONS[action] || label(action)), h("span", {}, phase === "intent" ? chip("asked for") : stateChip(outcome)));
}

/** What was acted on, as a link to where the console shows it. */
function target({ action, target: name, orgId, orgName }) {
  if (orgId && orgId === name) return organization({ orgId, orgName });
  return h("span", { class: "stack" }, placed(action, name), orgId && organization({ orgId, orgName }));
}

function placed(action, name) {
  if (/^evt_/.test(name)) return ourId(name, address("events", name));
  if (/^batch [0-9a-f]{24}$/.test(name)) return ourId(name.slice(6), address("deadletters", name.slice(6)));
  if (action === "acknowledge_finding") return ourId(name, address("findings", name));
  if (action === "refund") return ourId(name, address("refunds", null, { refundRequestId: name }));
  if (/^[0-9a-f]{24}$/.test(name) && !action.endsWith("_user")) return ourId(name, address("customer", name));
  return h("span", { class: "words" }, name);
}

function why(item) {
  return h(
    "div",
    { class: "stack" },
    item.note && h("span", {}, item.note),
    item.error && h("span", { class: "bad" }, item.error),
    h("details", {}, h("summary", {}, "Details"), details(item)),
  );
}

function details(item) {
  const changes = changed(item);
  const parameters = Object.entries(item.parameters || {}).filter(([, each]) => each !== null);
  return [
    changes.length > 0 && listed(changes),
    facts([
      ...parameters.map(([name, each]) => [label(name), value(each)]),
      ["Request id", ourId(item.requestId || "none")],
      ["Operation", ourId(item.operationId)],
    ]),
  ];
}

function changed({ before, after }) {
  if (!after) return [];
  const names = Object.keys(after).filter((name) => !same(before?.[name], after[name]));
  return changesOf({ previous: before, updated: after, changed: names });
}

function same(one, other) {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}
