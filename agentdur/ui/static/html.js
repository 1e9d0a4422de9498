// The one place that names the vendored libraries: everything else imports from here.
import { h, render, Component, Fragment } from "./vendor/preact.js";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import { computed, effect, signal, batch } from "./vendor/signals.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export {
  h, render, Component, Fragment, useEffect, useLayoutEffect, useMemo, useRef, useState,
  computed, effect, signal, batch,
};
