// The ledger of webhook events: all that Stripe sent, and what became of each.

import { fill, h } from "../dom.js";
import { heading, moments } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { label } from "../words.js";
import { eventAt, organization } from "./cells.js";
import { showEvent } from "./event.js";
import { BASE, EVENT_STATES, SOURCES, eventChip } from "./states.js";

const FILTERS = [
  { name: "state", label: "State", options: EVENT_STATES },
  { name: "type", label: "Type", type: "text" },
  { name: "orgId", label: "Organization id", type: "text" },
  { name: "source", label: "Source", options: SOURCES },
  { name: "from", label: "Received from", type: "moment" },
  { name: "to", label: "Until", type: "moment" },
];

export const view = { name: "events", title: "Events", needs: "deadletter:read", show };

async function show(container, context) {
  if (context.id) return showEvent(container, context);
  const { query, signal, go } = context;
  const results = h("div", { class: "panel" });
  fill(container, heading("Events", h("p", { class: "hint" }, "Everything that Stripe sent, the last received first. Nothing is ever dropped.")), results);
  await listing(results, {
    path: `${BASE}/events`,
    query,
    signal,
    go,
    caption: "Events",
    empty: "No event has arrived yet. Is the webhook endpoint set up at Stripe?",
    filters: FILTERS,
    columns: [
      { title: "Event", cell: (each) => eventAt(address("events", each.eventId), each), sort: ({ type }) => type },
      { title: "State", cell: (each) => [eventChip(each), " ", h("span", { class: "hint" }, became(each))], sort: ({ state }) => state },
      { title: "Organization", cell: organization },
      { title: "Attempts", cell: ({ attempts }) => String(attempts), sort: ({ attempts }) => attempts },
      { title: "Received", cell: ({ receivedAt }) => moments(receivedAt), sort: ({ receivedAt }) => receivedAt },
    ],
  });
}

function became({ state, outcome, reason, nextAttemptAt }) {
  if (state === "failed" && nextAttemptAt) return ["again ", moments(nextAttemptAt, { brief: true })];
  return label(reason || outcome || "").replace(/^None$/, "");
}
