// The console's page: which organization is shown follows the address, `/console#/customer/<id>`.

import { openAction } from "./actions.js";
import { Problem, call } from "./api.js";
import { customerView } from "./customer.js";
import { byId, fill } from "./dom.js";
import { trouble } from "./pieces.js";
import * as signin from "./signin.js";
import { VERDICTS } from "./words.js";

const TITLE = document.title;
let underWay = null;
let shownId = null;

function addressed() {
  const match = /^#\/customer\/([^/]*)$/.exec(location.hash);
  try {
    return match ? decodeURIComponent(match[1]) : null;
  } catch {
    return match[1];
  }
}

function lookUp(event) {
  event.preventDefault();
  const id = byId("org-id").value.trim();
  const address = `#/customer/${encodeURIComponent(id)}`;
  if (location.hash === address) show();
  else location.hash = address;
}

/** Show what the address names; an answer that was overtaken by another address is dropped. */
async function show({ quietly = false } = {}) {
  underWay?.abort();
  const id = addressed();
  if (id === null) return showNothing();
  const mine = (underWay = new AbortController());
  byId("org-id").value = id;
  fill(byId("trouble"));
  if (id !== shownId) fill(byId("view"));
  byId("view").setAttribute("aria-busy", "true");
  say("Asking Stripe and the database …");
  try {
    const seen = await call("GET", `/api/admin/billing/customer/${encodeURIComponent(id)}`, { signal: mine.signal });
    if (mine === underWay) showCustomer(seen, quietly);
  } catch (error) {
    if (mine === underWay && error.name !== "AbortError") showTrouble(error);
  } finally {
    if (mine === underWay) byId("view").removeAttribute("aria-busy");
  }
}

function showCustomer(seen, quietly) {
  const again = () => show({ quietly: true });
  fill(byId("view"), ...customerView(seen, (name) => openAction(name, seen, again)));
  shownId = seen.organization.id;
  const words = VERDICTS[seen.verdict] || seen.verdict;
  document.title = `${seen.organization.name || seen.organization.id}: ${words}`;
  say(`Looked at ${new Date().toISOString().slice(11, 19)} UTC.`);
  if (!quietly) byId("customer").focus({ preventScroll: true });
}

function showTrouble(error) {
  const problem = error instanceof Problem ? error.document : { title: "The console failed", detail: String(error) };
  shownId = null;
  document.title = TITLE;
  fill(byId("view"));
  fill(byId("trouble"), trouble(problem));
  say("");
}

function showNothing() {
  shownId = null;
  document.title = TITLE;
  fill(byId("view"));
  fill(byId("trouble"));
  say("Enter an organization's id to see what is stored here and what Stripe shows.");
  byId("org-id").focus();
}

function say(words) {
  byId("said").textContent = words;
}

byId("lookup").addEventListener("submit", lookUp);
window.addEventListener("hashchange", () => show());
signin.start(() => show());
show();
