// Findings: what does not fit between Stripe and us, what it costs, why, and which call repairs it.

import { fill, h } from "../dom.js";
import { heading } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { csvButton, setOf } from "./downloads.js";
import { showFinding } from "./finding.js";
import { findingColumns, gravestFirst } from "./finding_columns.js";
import { KIND_OPTIONS, SEVERITIES } from "./kinds.js";
import { BASE } from "./states.js";

const STATES = [
  ["open", "Open"],
  ["acknowledged", "Acknowledged"],
  ["resolved", "Resolved"],
  ["all", "All"],
];
const FILTERS = [
  { name: "severity", label: "Severity", options: SEVERITIES },
  { name: "kind", label: "Kind", options: KIND_OPTIONS },
  { name: "orgId", label: "Organization id", type: "text" },
  { name: "from", label: "First seen from", type: "moment" },
  { name: "to", label: "Until", type: "moment" },
];
// Asked for by links from a run: nobody types that.
const OF_A_RUN = { name: "reconciliationId", label: "Last seen by the run", type: "text" };
const NAMES = [...FILTERS, OF_A_RUN].map(({ name }) => name);
const PAGE = 50;

export const view = { name: "findings", title: "Findings", needs: "customer:read", show };

async function show(container, context) {
  if (context.id) return showFinding(container, context);
  const { query, signal, go, say } = context;
  const state = STATES.some(([name]) => name === query.get("state")) ? query.get("state") : "open";
  const always = state === "all" ? {} : { state };
  const results = h("div", {});
  fill(
    container,
    heading("Findings", h("p", { class: "hint" }, "What does not fit between Stripe and what is stored here. A reconciliation finds it and repairs nothing.")),
    h("div", { class: "panel" }, tabs(state, query), results),
  );
  const parameters = () => ({ ...always, ...setOf(query, NAMES) });
  await listing(results, {
    path: `${BASE}/findings`,
    always: { limit: PAGE, ...always },
    query: gravestFirst(query),
    signal,
    go,
    caption: "Findings",
    empty: state === "open" ? "Nothing is open: what was compared fits." : "There are none.",
    filters: query.get("reconciliationId") ? [...FILTERS, OF_A_RUN] : FILTERS,
    buttons: csvButton({ path: `${BASE}/findings`, parameters, name: "findings", say, signal }),
    link: ({ id }) => address("findings", id),
    columns: findingColumns(state === "all"),
  });
}

function tabs(state, query) {
  const target = (name) => {
    const parameters = new URLSearchParams(query);
    for (const each of ["cursor", "trail"]) parameters.delete(each);
    parameters.set("state", name);
    return address("findings", null, parameters);
  };
  const tab = ([name, words]) => h("li", {}, h("a", { href: target(name), "aria-current": name === state ? "true" : null }, words));
  return h("nav", { class: "tabs", "aria-label": "State" }, h("ul", {}, STATES.map(tab)));
}
