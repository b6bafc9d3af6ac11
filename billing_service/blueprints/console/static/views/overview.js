// Is all well? In words at the top, then the figures that say so; looked at again every half a minute while visible.

import { call } from "../api.js";
import { stackedBars } from "../charts.js";
import { fill, h, redraw } from "../dom.js";
import { chip, dotted, heading, moments, part, section, table, troubleOf, value } from "../pieces.js";
import { address } from "../router.js";
import { ago, count, grouped, label, lasting, moment } from "../words.js";
import { judged } from "./overview_judged.js";
import { reasonWords } from "./states.js";

const BASE = "/api/admin/billing";
const EVERY = 30_000;
const RUNS = "20";
const LETTERS = "6";

// From the ground up: what is done, then what is on its way, then what needs somebody.
const STATES = [
  { key: "succeeded", name: "succeeded", tone: "good", pattern: "plain" },
  { key: "received", name: "received", tone: "info", pattern: "dots" },
  { key: "processing", name: "in work", tone: "info", pattern: "rows" },
  { key: "failed", name: "failed, tried again", tone: "warn", pattern: "diagonal" },
  { key: "dead", name: "dead", tone: "bad", pattern: "cross" },
  { key: "closed", name: "closed", tone: "calm", pattern: "columns" },
];

const JOBS = {
  sweep: "Sweep: wakes what waits",
  missed_events: "Missed events: asks Stripe what never arrived",
  weekly_reset: "Weekly reset: every organization its new week",
  extras_expiry: "Extras that expire",
  dunning: "Dunning: what is past due too long",
  reconcile: "Reconciliation: everything against Stripe",
};

export const view = { name: "overview", title: "Overview", needs: "customer:read", show };

async function show(container, context) {
  const { signal, say } = context;
  fill(container, h("p", { class: "loading" }, "Looking …"));
  const letters = h("div", {});
  let said = null;
  const look = async () => {
    const [seen, runs] = await Promise.all([call("GET", `${BASE}/overview`, { signal }), recentRuns(signal)]);
    const judgement = judged(seen, lastOf(runs));
    redraw(container, () => draw(container, seen, { judgement, letters, runs, again: look, ...context }));
    if (context.can("deadletter:read")) part(letters, () => call("GET", `${BASE}/dead-letters/groups`, { query: { limit: LETTERS }, signal }), groups);
    if (judgement.title !== said) say((said = judgement.title));
  };
  await look();
  repeat(signal, look);
}

/** The newest reconciliations; their trouble is shown in their place, and hides nothing else. */
async function recentRuns(signal) {
  try {
    return await call("GET", `${BASE}/reconciliations`, { query: { limit: RUNS }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { items: [], error };
  }
}

/** The completed ones over everything, the newest first; a look at one organization says nothing of the others. */
function wholeOf({ items }) {
  return items.filter((each) => !each.orgId && each.state === "completed");
}

function lastOf(runs) {
  return wholeOf(runs)[0]?.finishedAt;
}

/** Again and again until the view is left; not while nobody looks, and quietly: what fails is tried the next time. */
function repeat(signal, look) {
  let looking = false;
  const timer = setInterval(async () => {
    if (looking || document.hidden || document.querySelector("dialog[open]")) return;
    looking = true;
    try {
      await look();
    } catch (error) {
      if (error.name !== "AbortError") stale("The last look failed; this is what was seen before.");
      // Who does not want to sign in now is not asked every half a minute.
      if (error.document?.code === "unauthorized") clearInterval(timer);
    } finally {
      looking = false;
    }
  }, EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function stale(words) {
  const mark = document.getElementById("looked");
  if (mark) mark.textContent = `${mark.dataset.at} ${words}`;
}

function draw(container, seen, { judgement, letters, runs, again, can }) {
  fill(
    container,
    heading("Overview", looked(seen)),
    verdict(judgement),
    h("div", { class: "tiles" }, tiles(seen, lastOf(runs))),
    h(
      "div",
      { class: "charts" },
      h("section", { class: "panel", "aria-label": "Events" }, hours(seen.hours)),
      h("section", { class: "panel", "aria-label": "Divergences" }, runs.error ? troubleOf(runs.error, again) : divergences(wholeOf(runs).reverse())),
    ),
    can("deadletter:read") && section("letters", "Dead letters by what failed alike", letters),
    section("jobs", "The calendar", jobs(seen.jobs)),
  );
}

function looked({ at, version, plans }) {
  const words = `Looked at ${moment(at)}; again every ${EVERY / 1000} seconds.`;
  return h("p", { class: "facts-line hint" }, h("span", { id: "looked", "data-at": words }, words), h("span", {}, `Version ${version}, plan file ${plans.slice(0, 8)}.`));
}

function verdict({ tone, title, points }) {
  const items = points.map((each) => h("li", {}, chip(WORDS[each.tone], each.tone), each.href ? h("a", { href: each.href }, each.words) : h("span", {}, each.words)));
  return h(
    "section",
    { class: `verdict ${tone}`, "aria-labelledby": "verdict" },
    h("h2", { id: "verdict" }, title),
    points.length ? h("ul", { class: "points" }, items) : h("p", {}, "Nothing waits, nothing is dead, both sides were found to agree, and everything that has to run is running."),
  );
}

const WORDS = { bad: "now", warn: "soon", info: "to know" };

/* Figures */

function tiles({ events, stripe, redis, jobs: all, openFindings, unknownRefunds, unknownOperations }, reconciledAt) {
  const { oldestUnhandled: oldest } = events;
  const reconciled = all.find(({ job }) => job === "reconcile");
  const open = Object.entries(openFindings).filter(([, number]) => number > 0);
  return [
    tile("Oldest unhandled event", oldest ? lasting(oldest.age) : "none", oldest ? [h("a", { href: address("events", oldest.eventId) }, oldest.type), ` is ${oldest.state}`] : "everything that arrived was handled"),
    tile("Dead letters", `${grouped(events.deadLetters)}${events.deadLettersAreCapped ? "+" : ""}`, events.newestDeadAt ? ["last one ", ago(events.newestDeadAt)] : "none", address("deadletters")),
    tile("Last verified delivery", events.lastDeliveryAt ? ago(events.lastDeliveryAt) : "never", events.lastDeliveryAt && moments(events.lastDeliveryAt, { brief: true })),
    tile("Last reconciliation", reconciledAt ? ago(reconciledAt) : "not yet", reconciled ? ["next due ", moments(reconciled.nextAt, { brief: true })] : null, address("reconciliation")),
    tile("Open findings", open.reduce((sum, [, number]) => sum + number, 0), open.length ? h("span", { class: "chips" }, open.map(([severity, number]) => chip(`${grouped(number)} ${severity}`, severity))) : "none", address("findings")),
    tile("Stripe", stripe.circuit === "closed" ? "reachable" : "not answering", [chip(`${stripe.mode} mode`, stripe.mode === "live" ? "bad" : "calm"), " ", stripe.account || "account not known yet"]),
    tile("Workers", redis ? redis.workers : "unknown", redis ? redis.queues.map(({ name, waiting }) => `${name} ${grouped(waiting)}`).join(", ") + " waiting" : "Redis does not answer"),
    tile("Not known yet", unknownRefunds + unknownOperations, `${count(unknownRefunds, "refund")}, ${count(unknownOperations, "other action")}`, address("refunds", null, { state: "unknown" })),
  ];
}

function tile(name, figure, more, href = null) {
  return h("div", { class: "tile" }, h("h2", {}, href ? h("a", { href }, name) : name), h("p", { class: "figure" }, typeof figure === "number" ? grouped(figure) : figure), h("p", { class: "hint" }, more));
}

/* Charts */

function hours({ items, isCapped }) {
  const total = items.reduce((sum, each) => sum + STATES.reduce((mine, { key }) => mine + each[key], 0), 0);
  const wrong = items.reduce((sum, each) => sum + each.dead + each.failed, 0);
  const hour = (at) => at.slice(11, 16);
  return stackedBars({
    id: "hours",
    title: "Events of the last 24 hours",
    summary: `${count(total, "event")}${isCapped ? " or more" : ""} arrived, ${wrong ? `${grouped(wrong)} of them failed or are dead` : "none of them failed"}. By hour of arrival (UTC) and what became of them.`,
    series: STATES,
    bars: items.map((each) => ({ label: moment(each.at), short: hour(each.at), values: STATES.map(({ key }) => each[key]) })),
    first: "Hour",
  });
}

const FINDINGS = [
  { name: "divergences", tone: "warn", pattern: "diagonal" },
  { name: "not compared (errors)", tone: "bad", pattern: "cross" },
];

/** Of the completed runs over everything, the oldest first. */
function divergences(whole) {
  if (!whole.length) {
    const words = "None has been completed yet; one is due each Sunday, and it can be started from Reconciliation.";
    return h("figure", { class: "chart" }, h("figcaption", {}, h("h2", {}, "Divergences of each reconciliation"), h("p", { class: "empty" }, words)));
  }
  const last = whole.at(-1);
  return stackedBars({
    id: "runs",
    title: "Divergences of each reconciliation",
    summary: `The last one, ${ago(last.startedAt)}, compared ${count(last.checked, "subscription")} and found ${count(last.divergences, "divergence")}; ${count(last.new, "finding")} ${last.new === 1 ? "is" : "are"} new.`,
    series: FINDINGS,
    bars: whole.map((each) => ({ label: moment(each.startedAt), short: new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }).format(new Date(each.startedAt)), values: [each.divergences, each.errors] })),
    first: "Started",
  });
}

/* Lists */

function groups({ items, total }) {
  if (!items.length) return h("p", { class: "empty" }, "No dead letters: everything that arrived was handled.");
  const rows = items.map((each) => [
    h("a", { href: address("deadletters", null, { fingerprint: each.fingerprint, type: each.type }) }, dotted(each.type)),
    h("span", { class: "fingerprint" }, each.fingerprint || each.reasons.map(reasonWords).join(", ")),
    grouped(each.count),
    value(each.lastAt),
  ]);
  return [
    table("Dead letters by what failed alike", ["Type", "What failed", "Count", "Last"], rows),
    total > items.length && h("p", {}, h("a", { href: address("deadletters") }, `All ${grouped(total)} groups`)),
  ];
}

function jobs(all) {
  const rows = all.map(({ job, last, nextAt }) => [
    h("span", {}, JOBS[job] || label(job)),
    last ? chip(last.state.replace("_", " "), { succeeded: "good", failed: "bad", given_up: "bad", running: "info", claimed: "info" }[last.state]) : h("span", { class: "none" }, "has not run yet"),
    value(last?.finishedAt || last?.startedAt),
    value(nextAt),
  ]);
  return table("The calendar", ["Job", "Last run", "At", "Next"], rows);
}
