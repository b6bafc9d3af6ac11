// What is read further and further back, page after page below each other: timelines and payments of a customer.

import { call } from "./api.js";
import { fill, h } from "./dom.js";
import { troubleOf } from "./pieces.js";

/**
 * Fill the container with the first page and a button for more; resolves when the page is there.
 *
 * path, query   the endpoint and its parameters; `draw(item)` gives an element of `list`
 * empty         what to say where there is nothing; `more` the words of the button
 */
export async function feed(container, { path, query = {}, list, draw, empty, more = "Show older", signal }) {
  const footer = h("div", { class: "more" });
  fill(container, list, footer);
  const load = async (cursor) => {
    fill(footer, h("p", { class: "loading" }, "Loading …"));
    try {
      const page = await call("GET", path, { query: cursor ? { ...query, cursor } : query, signal });
      const added = page.items.map(draw);
      list.append(...added);
      fill(footer, footing(page));
      if (cursor) beginReading(added[0]);
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(footer, troubleOf(error, () => load(cursor)));
    }
  };
  const footing = ({ nextCursor }) => {
    if (!list.childElementCount) return h("p", { class: "empty" }, empty);
    return nextCursor ? h("button", { type: "button", class: "quiet", onclick: () => load(nextCursor) }, more) : null;
  };
  await load(null);
}

/** The button is gone; who pressed it goes on reading where the new page begins. */
function beginReading(element) {
  if (!element) return;
  element.tabIndex = -1;
  element.focus();
}
