// Reads a JSON list of custom resources, and prints one line for each that its CRD's schema refuses.
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as monitoring from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const kinds = { "keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": monitoring };
let text = "";
for await (const chunk of process.stdin) text += chunk;
for (const resource of JSON.parse(text)) {
  try {
    new kinds[resource.apiVersion][resource.kind](resource).validate();
  } catch (error) {
    console.log(`${resource.kind} ${resource.metadata.name}: ${error.message}`);
  }
}
