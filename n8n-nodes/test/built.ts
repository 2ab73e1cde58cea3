// The package as it was built, for its tests: `make n8n-package` comes first.

import { createRequire } from "node:module";
import { join } from "node:path";
import { ROOT } from "../../tests/platforms/service.ts";

const require = createRequire(import.meta.url);

/** A module of the built package, such as `nodes/shared/schema`. */
export function built(name: string) {
  return require(join(ROOT, "target/n8n-package/n8n-nodes-spillway/dist", `${name}.js`));
}
