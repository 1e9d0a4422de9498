// Choosing one of several in a head, or none.
import { html, useEffect, useState } from "../html.js";
import { get } from "../api.js";

/**
 * @param {{label: string, all: string, value: string, options: string[],
 *   onPick: (one: string) => void}} props
 */
export function Pick({ label, all, value, options, onPick }) {
  const shown = [...new Set([...options, value])].filter(Boolean);
  return html`<select aria-label=${label} value=${value} onChange=${(e) => onPick(e.target.value)}>
    <option value="">${all}</option>
    ${shown.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
  </select>`;
}

/** What is served, asked for once. */
export function useServices() {
  const [services, setServices] = useState(/** @type {Api.Service[]} */ ([]));
  useEffect(() => {
    get("/services").then((all) => setServices(all.services), () => {});
  }, []);
  return services;
}
