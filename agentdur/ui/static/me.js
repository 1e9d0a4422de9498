// Who looks, and what he may: pages look here before they ask for what would be refused, or offer an act.
import { html, signal } from "./html.js";
import { get, signedOut } from "./api.js";

/** What the server knows of who looks; null until it has said so. */
export const me = signal(/** @type {Api.Me | null} */ (null));

export const whoami = () => get("/whoami").then((/** @type {Api.Me} */ about) => {
  me.value = about;
  signedOut.value = about.asked && !about.name;
});

const RANK = { viewer: 1, operator: 2, admin: 3 };

/** @param {keyof typeof RANK} role */
export const may = (role) => !me.value?.asked || (RANK[me.value.role] ?? 0) >= RANK[role];
export const seesPayloads = () => me.value?.payloads ?? true;
export const asksSql = () => me.value?.sql ?? true;

/** For who acts on payloads: he has to see them. @param {keyof typeof RANK} role */
export const mayOn = (role) => may(role) && seesPayloads();

/** Why somebody may not; empty when he may. @param {keyof typeof RANK} role */
export function whyNot(role, payloads = false) {
  if (!may(role)) return `This takes the role ${role}; yours is ${me.value?.role}.`;
  return payloads && !seesPayloads() ? "This takes who may see payloads; your role may not." : "";
}

/**
 * What a button needs: nothing, or that it cannot be pressed and why.
 * @param {keyof typeof RANK} role
 */
export function needs(role, payloads = false) {
  const why = whyNot(role, payloads);
  return why ? { disabled: true, title: why } : {};
}

/** In place of a page, or a part of one, that is not for him. */
export const NotForYou = ({ title, children }) => html`<div class="card empty"><b>${title}</b>${children}
</div>`;
