// A value that components follow, and what this browser keeps of it.

import { useEffect, useState } from "./vendor/htm-preact.js";

export class Store {
  #listeners = new Set();

  constructor(value) {
    this.value = value;
  }

  set(value) {
    this.value = value;
    for (const listener of this.#listeners) listener(value);
  }

  update(fields) {
    this.set({ ...this.value, ...fields });
  }

  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** The value of a store in a component, which is drawn again when it changes. */
export function useStore(store) {
  const [value, setValue] = useState(store.value);
  useEffect(() => {
    setValue(store.value);
    return store.listen(setValue);
  }, [store]);
  return value;
}

/** Several servers may share an origin, each with a prefix of its own. */
const PREFIX = `facelight:${new URL(".", document.baseURI).pathname}:`;

/** What was kept under a name, or `otherwise`: nothing was, or the browser keeps nothing. */
export function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keep a value; undefined removes it. A browser that refuses to goes on without. */
export function keep(name, value) {
  try {
    if (value === undefined) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full, or forbidden by the user.
  }
}

/** All that is kept under names that begin so. */
export function readAll(prefix) {
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX + prefix));
    return names.map((name) => read(name.slice(PREFIX.length), undefined)).filter(Boolean);
  } catch {
    return [];
  }
}
