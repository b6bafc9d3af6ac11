// How findings are listed, wherever they are.

import { h } from "../dom.js";
import { chip, moments } from "../pieces.js";
import { count, money } from "../words.js";
import { organization } from "./cells.js";
import { SEVERITIES, causeTold, kindWords } from "./kinds.js";
import { stateChip } from "./states.js";

/** The columns of a list of findings. */
export function findingColumns(withState) {
  return [
    { title: "What", cell: ({ kind }) => kindWords(kind), sort: ({ kind }) => kindWords(kind) },
    { title: "Severity", cell: ({ severity }) => chip(severity, severity), sort: ({ severity }) => SEVERITIES.indexOf(severity) },
    withState && { title: "State", cell: ({ state }) => stateChip(state), sort: ({ state }) => state },
    { title: "At risk a month", cell: ({ moneyAtRisk }) => atRisk(moneyAtRisk), sort: ({ moneyAtRisk }) => moneyAtRisk[0]?.amount ?? 0 },
    { title: "Organization", cell: organization },
    { title: "Cause", cell: ({ cause }) => causeTold(cause).title, sort: ({ cause }) => cause },
    { title: "First seen", cell: ({ firstSeenAt, timesSeen }) => h("span", { class: "stack" }, moments(firstSeenAt), timesSeen > 1 && h("span", { class: "hint" }, `seen ${count(timesSeen, "time")}`)), sort: ({ firstSeenAt }) => firstSeenAt },
  ].filter(Boolean);
}

// The column of the severity.
const GRAVEST = "1";

/** The gravest first, unless another order was chosen; the API's own order is that of their discovery. */
export function gravestFirst(query) {
  const parameters = new URLSearchParams(query);
  if (!parameters.has("sort")) parameters.set("sort", GRAVEST);
  return parameters;
}

/** Amounts in words: Stripe's currencies are never added up. */
export function atRisk(all) {
  if (!all?.length) return h("span", { class: "none" }, "nothing");
  return h("strong", {}, all.map(({ amount, currency }) => money(amount, currency)).join(", "));
}
