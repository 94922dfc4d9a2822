// The code of a request; its modules are loaded when somebody looks.

import { lazy } from "../lazy.js";

export const CodePanel = lazy(() => import("./code.js").then((module) => module.Code));
