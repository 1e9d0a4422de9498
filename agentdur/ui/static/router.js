// Everything is a URL. Links below /ui change the page without loading it again.
import { signal } from "./html.js";

const BASE = "/ui";

const read = () => ({
  path: location.pathname.slice(BASE.length) || "/",
  query: new URLSearchParams(location.search),
});

/** Where we are: `path` below /ui, and the query. */
export const route = signal(read());

/** @param {string} path below /ui @param {{replace?: boolean}} [how] */
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", BASE + path);
  route.value = read();
  if (!replace) scrollTo(0, 0);
}

/** Change parts of the query; empty values go. */
export function setQuery(changes, { replace = true } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "" && one != null)
      query.append(name, one);
  }
  const text = query.toString();
  go(route.value.path + (text ? `?${text}` : ""), { replace });
}

export const href = (path) => BASE + path;

/** The parts of `path` where `pattern` has `:name`; null when it does not fit. */
export function match(pattern, path) {
  const wanted = pattern.split("/"), given = path.replace(/\/$/, "").split("/");
  if (path === "/") return pattern === "/" ? {} : null;
  if (wanted.length !== given.length) return null;
  const found = {};
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i].startsWith(":")) {
      try {
        found[wanted[i].slice(1)] = decodeURIComponent(given[i]);
      } catch {
        return null;
      }
    } else if (wanted[i] !== given[i]) return null;
  }
  return found;
}

addEventListener("popstate", () => (route.value = read()));
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey)
    return;
  const to = new URL(link.getAttribute("href") ?? "", location.href); // a link in an SVG has no parts
  if (link.getAttribute("target") || to.origin !== location.origin) return;
  if (!to.pathname.startsWith(`${BASE}/`)) return;
  event.preventDefault();
  go(to.pathname.slice(BASE.length) + to.search);
});
