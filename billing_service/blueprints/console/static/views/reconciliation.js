// Reconciliations: each comparison of everything with Stripe, starting one, and following it.

import { call } from "../api.js";
import { openAction } from "../confirming.js";
import { byId, fill, h } from "../dom.js";
import { chip, heading, moments, part, section } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { ago, count, grouped, lasting } from "../words.js";
import { organization } from "./cells.js";
import { findingsTold, showRun } from "./run.js";
import { BASE, stateChip, triggerWords } from "./states.js";

export const view = { name: "reconciliation", title: "Reconciliation", needs: "customer:read", show };

async function show(container, context) {
  if (context.id) return showRun(container, context);
  const { query, signal, go, can } = context;
  const [next, results] = [h("div", { class: "next" }), h("div", { class: "panel" })];
  const run = can("reconcile:run") && h("button", { type: "button", id: "run-now", onclick: () => runNow(context) }, "Run now");
  fill(
    container,
    heading("Reconciliation", h("p", { class: "hint" }, "Each Sunday at 03:00 UTC everything is compared with Stripe. It looks twice and repairs nothing: what it finds are findings.")),
    section("due", "Next", next, h("div", { class: "buttons" }, run, h("a", { class: "button quiet", href: address("findings") }, "Open findings"))),
    results,
  );
  await Promise.all([
    part(next, () => call("GET", `${BASE}/overview`, { signal }), due),
    listing(results, {
      path: `${BASE}/reconciliations`,
      query,
      signal,
      go,
      caption: "Reconciliations",
      empty: "Nothing has been compared yet.",
      link: ({ id }) => address("reconciliation", id),
      columns: COLUMNS,
    }),
  ]);
}

function due({ jobs, openFindings }) {
  const job = jobs.find((each) => each.job === "reconcile");
  const all = Object.entries(openFindings).filter(([, number]) => number);
  return [
    job && h("p", {}, "By itself ", h("strong", {}, ago(job.nextAt)), ": ", moments(job.nextAt, { brief: true }), "."),
    h("p", { class: "line" }, "Open now: ", all.length ? all.map(([severity, number]) => chip(`${grouped(number)} ${severity}`, severity)) : h("span", { class: "none" }, "nothing")),
  ];
}

const COLUMNS = [
  { title: "Begun", cell: ({ startedAt }) => moments(startedAt), sort: ({ startedAt }) => startedAt },
  { title: "State", cell: ({ state }) => stateChip(state), sort: ({ state }) => state },
  { title: "By", cell: by, sort: ({ trigger }) => trigger },
  { title: "Compared", cell: (each) => (each.orgId ? organization(each) : grouped(each.checked)), sort: ({ checked }) => checked },
  { title: "Found", cell: findingsTold, wide: true, sort: ({ divergences }) => divergences },
  { title: "Not compared", cell: ({ errors }) => (errors ? chip(grouped(errors), "warn") : "0"), sort: ({ errors }) => errors },
  { title: "Took", cell: took },
];

function by(run) {
  return h("span", { class: "stack" }, h("span", {}, triggerWords(run)), run.actor && h("span", { class: "hint" }, run.actor));
}

function took({ startedAt, finishedAt }) {
  return finishedAt ? lasting((new Date(finishedAt) - new Date(startedAt)) / 1000) : h("span", { class: "none" }, "not over");
}

function runNow({ go, say }) {
  openAction({
    title: "Run a reconciliation now",
    explanation: "Everything is compared with Stripe, twice where it differs. Nothing is changed, here or at Stripe.",
    path: `${BASE}/reconcile`,
    confirm: "Run it now",
    foretold: ({ expected, stripeRequests, seconds }) => h("p", {}, `${count(expected, "subscription")} will be compared, with about ${count(stripeRequests, "request")} to Stripe, in ${lasting(Math.max(1, seconds))} or more.`),
    done: () => h("p", {}, "It has begun."),
    changed: ({ reconciliationId }) => {
      byId("action-dialog").close();
      say("The reconciliation has begun.");
      go(address("reconciliation", reconciliationId));
    },
  });
}
