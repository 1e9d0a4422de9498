// What the pages use of the vendored libraries, which bring no types along.
export interface Node { type: any; props: any }
type Markup = any;
export class Component<P = any, S = any> {
  constructor(props?: P);
  props: P;
  state: S;
  setState(change: Partial<S>): void;
  shouldComponentUpdate(props: P, state: S): boolean;
  render(props: P, state: S): Markup;
}
export const Fragment: any;
export function h(type: any, props: any, ...children: any[]): Node;
export function render(tree: Markup, parent: Element | null): void;
export function html(parts: TemplateStringsArray, ...values: any[]): Markup;

type Change<T> = T | ((before: T) => T);
export function useState<T>(first: T | (() => T)): [T, (next: Change<T>) => void];
export function useRef(first: null): { current: any };
export function useRef<T>(first: T): { current: T };
export function useMemo<T>(make: () => T, when: readonly any[]): T;
export function useEffect(work: () => void | (() => void), when?: readonly any[]): void;
export const useLayoutEffect: typeof useEffect;

export interface Signal<T> { value: T; peek(): T }
export function signal<T>(first: T): Signal<T>;
export function computed<T>(make: () => T): { readonly value: T; peek(): T };
export function effect(work: () => void): () => void;
export function batch<T>(work: () => T): T;
