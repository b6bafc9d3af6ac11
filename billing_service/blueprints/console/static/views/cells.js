// Cells that several lists have.

import { h } from "../dom.js";
import { dotted, ourId, value } from "../pieces.js";
import { address } from "../router.js";

/** The organization by its name, with its id; the first of them leads to its view. */
export function organization({ orgId, orgName }) {
  if (!orgId) return value(null);
  const target = address("customer", orgId);
  if (!orgName) return ourId(orgId, target);
  return h("span", { class: "stack named" }, h("a", { href: target, class: "brief" }, orgName), ourId(orgId));
}

/** An event by its type, with its id; both lead to `href`. */
export function eventAt(href, { type, eventId }) {
  return h("span", { class: "stack event" }, h("a", { href, class: "row" }, dotted(type)), ourId(eventId));
}
