// One reconciliation: how far it is while it runs, what it found, and the difference to the one before.

import { call } from "../api.js";
import { fill, h, redraw } from "../dom.js";
import { chip, facts, heading, moments, ourId, section, table, trouble, troubleOf, value } from "../pieces.js";
import { address } from "../router.js";
import { listing } from "../tables.js";
import { ago, count, grouped, label, lasting, moment } from "../words.js";
import { organization } from "./cells.js";
import { findingColumns, gravestFirst } from "./finding_columns.js";
import { follow, inTurn, unlessLeft } from "./following.js";
import { kindWords } from "./kinds.js";
import { progress } from "./progress.js";
import { BASE, stateChip, triggerWords } from "./states.js";

const OPEN = ["running", "interrupted"];
// Each phase in words, and its number of all.
const PHASES = {
  planned: "It is about to begin",
  listing: "Stripe's subscriptions are compared with our rows",
  rows: "Rows that Stripe did not show are looked for one by one",
  organizations: "The organizations' plans are compared with their rows",
  confirming: "What differs is looked at once more, later: only what lasts is a finding",
  resolving: "Findings that are gone are resolved",
};
const FAILED = {
  stripe_misconfigured: "Most stored subscriptions do not exist for this key, or Stripe refuses it. Check STRIPE_SECRET_KEY before anything else.",
};

/** Fill the container with the run that the address names, and follow it while it goes on. */
export async function showRun(container, context) {
  const { id, signal, say } = context;
  const load = () => call("GET", `${BASE}/reconciliations/${encodeURIComponent(id)}`, { signal });
  const first = await load();
  const [state, findings] = [h("div", { class: "parts" }), h("div", {})];
  const extent = first.orgId ? [h("span", {}, "one organization:"), organization(first)] : "everything";
  fill(
    container,
    heading(`Reconciliation of ${moment(first.startedAt)}`, h("p", { class: "hint line" }, h("a", { href: address("reconciliation") }, "All reconciliations"), extent)),
    state,
    section("found", "Findings that it was the last to see", findings),
  );
  fill(state, drawn(first, null));
  const list = await listed(findings, first, context);
  if (!OPEN.includes(first.state)) return;
  const reload = inTurn(() => list.reload());
  let seen = JSON.stringify(first.findings);
  const draw = (run, problem) => {
    redraw(state, () => fill(state, drawn(run, problem)));
    if (JSON.stringify(run.findings) !== seen) reload();
    seen = JSON.stringify(run.findings);
  };
  const followed = follow({ load, draw, first, over: (run) => !OPEN.includes(run.state), signal }).then((run) => {
    reload();
    say(`The reconciliation has ended: ${label(run.state).toLowerCase()}, ${count(run.divergences, "divergence")}.`);
  });
  unlessLeft(followed, (error) => fill(state, troubleOf(error)));
}

function listed(container, run, { query, signal, go }) {
  return listing(container, {
    path: `${BASE}/findings`,
    always: { reconciliationId: run.id },
    query: gravestFirst(query),
    signal,
    go,
    caption: "Findings of the run",
    empty: "There are none: nothing differed, or a later run has seen what this one found.",
    link: ({ id }) => address("findings", id),
    columns: findingColumns(true),
  });
}

/** How much was found, in chips. */
export function findingsTold({ divergences, new: fresh, changed, resolved }) {
  const part = (number, words, tone) => number > 0 && chip(`${grouped(number)} ${words}`, tone);
  return h(
    "span",
    { class: "line" },
    h("strong", {}, count(divergences, "divergence")),
    part(fresh, "new", "bad"),
    part(changed, "changed", "warn"),
    part(resolved, "resolved", "good"),
  );
}

function drawn(run, problem) {
  return [
    problem && trouble(problem),
    section("progress", OPEN.includes(run.state) ? "Progress" : "Result", ...told(run)),
    h("div", { class: "halves even" }, section("kinds", "By kind", kinds(run)), section("known", "What is known", known(run))),
    run.errors > 0 && section("errors", "Not compared", errors(run)),
  ];
}

function told(run) {
  const { state, phase, checked, expected, nextAt, error } = run;
  const bar = OPEN.includes(state) && progress({ done: checked, total: expected, words: `${grouped(checked)} of about ${grouped(expected)} compared` });
  return [
    h("p", { class: "line" }, stateChip(state), OPEN.includes(state) && h("span", {}, `${PHASES[phase] || label(phase)}.`), !OPEN.includes(state) && findingsTold(run)),
    bar,
    OPEN.includes(state) && nextAt && new Date(nextAt) > new Date() && h("p", { class: "hint" }, `It goes on ${ago(nextAt)}.`),
    state === "interrupted" && h("p", {}, "Its process stopped. The sweep or the next start goes on where it was."),
    error && trouble({ title: "It failed", detail: FAILED[error] || error, code: error }),
  ];
}

function kinds({ findings, previous }) {
  const difference = previous?.difference || {};
  const names = [...new Set([...Object.keys(findings), ...Object.keys(difference)])];
  if (!names.length) return h("p", { class: "empty" }, "Nothing differed.");
  const rows = names
    .sort((one, other) => (findings[other] || 0) - (findings[one] || 0))
    .map((name) => [kindWords(name), grouped(findings[name] || 0), previous ? more(difference[name]) : h("span", { class: "none" }, "no earlier run")]);
  const words = previous ? h("p", { class: "hint" }, "Beside ", h("a", { href: address("reconciliation", previous.id) }, `the run of ${moment(previous.finishedAt)}`), ".") : null;
  return [table("Findings by kind", ["Kind", "Found", "Than before"], rows), words];
}

function more(number) {
  if (!number) return "as many";
  return chip(number > 0 ? `${grouped(number)} more` : `${grouped(-number)} fewer`, number > 0 ? "bad" : "good");
}

function known(run) {
  const seconds = run.finishedAt && (new Date(run.finishedAt) - new Date(run.startedAt)) / 1000;
  return facts([
    ["Begun", moments(run.startedAt)],
    ["Ended", moments(run.finishedAt)],
    ["Took", run.finishedAt ? lasting(Math.max(1, seconds)) : value(null)],
    ["By", run.actor ? `${triggerWords(run)}: ${run.actor}` : triggerWords(run)],
    ["Compared", grouped(run.checked)],
    ["Looked at again", grouped(run.candidates)],
    ["On their way", `${grouped(run.inFlight)}, no finding`],
    ["Of other products", grouped(run.foreign)],
    ["Acknowledged", grouped(run.acknowledged)],
    ["Requests to Stripe", grouped(run.stripeRequests)],
    ["Run", ourId(run.id)],
  ]);
}

function errors({ errors: number, errorSample: sample }) {
  const rows = sample.map(({ subject, code, detail }) => [subjectLink(subject), h("code", {}, code), h("span", { class: "words" }, detail)]);
  return [
    h("p", { class: "hint" }, `${count(number, "subject")} could not be compared, so nothing was judged of them${number > sample.length ? `; the first ${sample.length}` : ""}.`),
    table("What could not be compared", ["Whose", "Code", "Why"], rows),
  ];
}

function subjectLink(subject) {
  return /^[0-9a-f]{24}$/.test(subject) ? ourId(subject, address("customer", subject)) : value(subject);
}
