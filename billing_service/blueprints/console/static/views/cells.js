// Cells that several lists have.

import { h } from "../dom.js";
import { dotted, ourId, value } from "../pieces.js";
import { address } from "../router.js";

/** The organization, as a link to its view. */
export function organization({ orgId }) {
  return orgId ? ourId(orgId, address("customer", orgId)) : value(null);
}

/** An event by its type, with its id; both lead to `href`. */
export function eventAt(href, { type, eventId }) {
  return h("span", { class: "stack event" }, h("a", { href, class: "row" }, dotted(type)), ourId(eventId));
}
