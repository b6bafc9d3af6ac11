// The console's page: which views there are, the search box, signing in.

import { byId } from "./dom.js";
import * as router from "./router.js";
import * as signin from "./signin.js";
import { view as audit } from "./views/audit.js";
import { view as customer } from "./views/customer.js";
import { view as deadletters } from "./views/deadletters.js";
import { view as events } from "./views/events.js";
import { view as findings } from "./views/findings.js";
import { view as overview } from "./views/overview.js";
import { view as reconciliation } from "./views/reconciliation.js";
import { view as refunds } from "./views/refunds.js";

// In the order of the navigation; the first is where one starts.
const VIEWS = [overview, customer, deadletters, events, reconciliation, findings, refunds, audit];

function search(event) {
  event.preventDefault();
  const text = byId("query").value.trim();
  byId("query").blur();
  router.go(router.address("customer", null, { q: text }));
}

/** `/` is for searching, wherever one is, unless one is typing. */
function shortcut(event) {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (document.querySelector("dialog[open]") || byId("search").hidden) return;
  event.preventDefault();
  byId("query").focus();
  byId("query").select();
}

byId("search").addEventListener("submit", search);
document.addEventListener("keydown", shortcut);
signin.start(() => router.show());
router.start(VIEWS);
