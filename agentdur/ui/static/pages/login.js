// Who you are, where the server asks: a token for a cookie that no script can read.
import { html, useEffect, useState } from "../html.js";
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
  useEffect(() => {
    document.title = "Sign in · agentdur";
  }, []);
  return html`<div class="card empty"><h1>Sign in</h1>
    This server asks who looks. Who runs it has made you a token with <code>agentdur token</code>.
    <form class="stack login" onSubmit=${enter}>
      <label class="field" for="token">Your token
        <input id="token" name="token" type="password" autocomplete="current-password" required /></label>
      ${error && html`<p class="note failed small" role="alert">${error}</p>`}
      <button class="primary">Sign in</button>
    </form></div>`;
}

/** Who is signed in, and the way out. */
export const Me = () => me.value?.name ? html`<div class="me"><span><b>${me.value.name}</b>${" "}
  ${me.value.role}</span> <button class="plain" onClick=${leave}>Sign out</button></div>` : null;
