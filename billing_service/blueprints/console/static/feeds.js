// What is read further and further back, page after page below each other: timelines and payments of a customer.

import { call } from "./api.js";
import { fill, h, redraw } from "./dom.js";
import { newestOf, troubleOf } from "./pieces.js";

/**
 * Fill the container with the first page and a button for more; resolves when the page is there. What the container
 * has already stays until then.
 *
 * path, query   the endpoint and its parameters
 * list          () => the element that the items are in; `draw(item)` gives one
 * empty         what to say where there is nothing; `more` the words of the button
 */
export async function feed(container, options) {
  const isNewest = newestOf(container);
  const list = options.list();
  const footer = h("div", { class: "more" });
  const load = async (cursor) => {
    fill(footer, h("p", { class: "loading" }, "Loading …"));
    try {
      const page = await call("GET", options.path, { query: { ...options.query, ...(cursor ? { cursor } : {}) }, signal: options.signal });
      const added = page.items.map(options.draw);
      list.append(...added);
      fill(footer, footing(page.nextCursor));
      if (cursor) beginReading(added[0]);
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(footer, troubleOf(error, () => load(cursor)));
    }
  };
  const footing = (nextCursor) => {
    if (!list.childElementCount && !nextCursor) return h("p", { class: "empty" }, options.empty);
    return nextCursor ? h("button", { type: "button", class: "quiet", onclick: () => load(nextCursor) }, options.more) : null;
  };
  if (!container.childNodes.length) fill(container, list, footer);
  await load(null);
  if (!list.isConnected && isNewest()) redraw(container, () => fill(container, list, footer));
}

/** The button is gone; who pressed it goes on reading where the new page begins. */
function beginReading(element) {
  if (!element) return;
  element.tabIndex = -1;
  element.focus();
}
