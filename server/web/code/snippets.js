// Programs that send exactly one request, by v1 (which waits for the picture) or v2 (queued), and save its pictures.

import { callFor } from "./call.js";
import { curl } from "./curl.js";
import { javascript } from "./javascript.js";
import { requests, segmind } from "./python.js";

export const LANGUAGES = {
  curl: { title: "curl", write: curl },
  segmind: { title: "Python, segmind", write: segmind },
  requests: { title: "Python, requests", write: requests },
  fetch: { title: "JavaScript", write: javascript },
};
export const VERSIONS = { v2: "v2: queue and poll", v1: "v1: wait" };

/** The program in a language of LANGUAGES for a request; what that is tells `callFor`. */
export const codeFor = (language, request) => (LANGUAGES[language] ?? LANGUAGES.curl).write(callFor(request));
