// What an action changes in a row, in words and field by field.

import { h } from "../dom.js";
import { value } from "../pieces.js";
import { COMPARED, camel, count, label, plain } from "../words.js";

/** What a dry run says would change. */
export function changesTold(answer) {
  const changes = changesOf(answer);
  if (!changes.length) return h("p", {}, "Nothing would change in our row.");
  return [h("p", {}, `This will change ${inWords(changes)}.`), listed(changes)];
}

/** What was changed. */
export function told(answer) {
  const changes = changesOf(answer);
  if (!changes.length) return h("p", {}, "Done: nothing had to change.");
  return [h("p", {}, `Done: changed ${inWords(changes)}.`), listed(changes)];
}

/** What changes, in the order of the page. */
export function changesOf({ previous, updated, changed }) {
  const place = (name) => (COMPARED.includes(name) ? COMPARED.indexOf(name) : COMPARED.length);
  const names = changed.map(camel).sort((one, other) => place(one) - place(other));
  return names.map((name) => ({ name, from: previous?.[name], to: updated?.[name] }));
}

/** The plan first: it is what the customer notices. */
function inWords(changes) {
  const telling = changes.filter((each) => ["plan", "status"].includes(each.name));
  const words = telling.map(({ name, from, to }) => `${name} ${plain(from)} to ${plain(to)}`).sort();
  const others = changes.length - telling.length;
  if (others) words.push(count(others, words.length ? "other field" : "field"));
  return words.join(words.length > 2 ? ", " : " and ");
}

export function listed(changes) {
  return h(
    "ul",
    { class: "changes" },
    changes.map(({ name, from, to }) =>
      h("li", {}, h("span", {}, label(name)), value(from), h("span", { class: "arrow" }, "to"), value(to)),
    ),
  );
}
