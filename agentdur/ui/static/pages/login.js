// Who you are, where the server asks: a token for a cookie that no script can read.
import { html, useState } from "../html.js";
import { post } from "../api.js";
import { me, whoami } from "../me.js";

export async function leave() {
  await post("/logout");
  await whoami();
}

export function LoginPage() {
  const [error, setError] = useState("");
  const enter = async (event) => {
    event.preventDefault();
    const field = event.target.elements.token;
    try {
      await post("/login", { token: field.value.trim() });
      field.value = "";
      setError("");
      await whoami();
    } catch (failed) {
      setError(failed.message);
    }
  };
  return html`<div class="card empty"><b>Sign in</b>
    <form class="stack tight" onSubmit=${enter}>
      <label for="token">Your token</label>
      <input id="token" name="token" type="password" autocomplete="current-password" required />
      ${error && html`<p role="alert">${error}</p>`}
      <button class="primary">Sign in</button>
    </form></div>`;
}

/** Who is signed in, and the way out. */
export const Me = () => me.value?.name ? html`<span title=${me.value.role}>${me.value.name}</span>${" "}
  <button class="quiet" onClick=${leave}>Sign out</button><br />` : null;
