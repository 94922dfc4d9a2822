// The pictures of a request: before and after, a grid of several, one in full view.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { BASE } from "../api/calls.js";
import { useImage } from "../form/picture.js";

/** Where the page gets a picture of a result: always from this server, by whatever name the API calls it. */
export const sourceOf = (image) => `${BASE}files/${image.file_name}`;

export function Result({ request, subject, isRelit, onRelight }) {
  const [open, setOpen] = useState(null);
  const before = useImage(subject);
  const { images } = request;
  const isCompared = isRelit && before && images.length === 1;
  return html`
    ${isCompared && html`<${Compare} before=${before.source} after=${sourceOf(images[0])} />`}
    ${!isCompared && html`
      <div class="pictures ${images.length > 1 ? "several" : ""}">
        ${images.map(
          (image, index) => html`
            <button type="button" class="picture" aria-label=${`Picture ${index + 1}: full view`} onClick=${() => setOpen(index)}>
              <img src=${sourceOf(image)} alt=${altOf(request, index)} loading="lazy" />
            </button>
          `,
        )}
      </div>
    `}
    <div class="actions">
      ${isCompared && html`<button type="button" class="quiet" onClick=${() => setOpen(0)}>Full view</button>`}
      ${images.length === 1 && html`<${Links} image=${images[0]} name=${nameOf(request, 0)} onRelight=${onRelight} />`}
    </div>
    ${open !== null && html`
      <${Viewer} request=${request} first=${open} onRelight=${onRelight} onClose=${() => setOpen(null)} />
    `}
  `;
}

const altOf = (request, index) =>
  `Picture ${index + 1} of ${request.images.length}: ${request.body.prompt ?? request.model}`.slice(0, 200);

const nameOf = (request, index) =>
  `${request.model}-${request.seed}${request.images.length > 1 ? `-${index + 1}` : ""}.${request.images[index].file_name.split(".").pop()}`;

function Compare({ before, after }) {
  const [divider, setDivider] = useState(50); // % of the width
  useEffect(() => void import("../vendor/img-comparison-slider.js").catch(() => {}), []); // both pictures are seen without
  const press = (event) => {
    const to = { ArrowLeft: divider - 5, ArrowRight: divider + 5, Home: 0, End: 100 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // the element itself moves as long as a key is held, and not by a short press
    setDivider(Math.min(100, Math.max(0, to)));
  };
  return html`
    <figure class="compare" onKeyDownCapture=${press}>
      <img-comparison-slider tabindex="0" role="slider" aria-label="Divider between before and after" aria-valuemin="0"
        aria-valuemax="100" aria-valuenow=${Math.round(divider)} value=${divider} onslide=${(event) => setDivider(event.target.value)}>
        <img slot="first" src=${before} alt="Before" />
        <img slot="second" src=${after} alt="After" />
      </img-comparison-slider>
      <figcaption><span>Before</span><span>After</span></figcaption>
    </figure>
  `;
}

function Links({ image, name, onRelight }) {
  return html`
    <a role="button" class="quiet" href=${sourceOf(image)} download=${name}>Download</a>
    ${onRelight && html`
      <button type="button" class="quiet" onClick=${() => onRelight({ name, address: image.url })}>Relight this</button>
    `}
  `;
}

function Viewer({ request, first, onRelight, onClose }) {
  const [index, setIndex] = useState(first);
  const dialog = useRef();
  const { images } = request;
  const turn = (by) => setIndex((index + by + images.length) % images.length);
  const press = (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  };
  const shown = (element) => {
    dialog.current = element;
    if (element && !element.open) element.showModal();
  };
  const relight = onRelight && ((picture) => {
    onClose();
    onRelight(picture);
  });
  return html`
    <dialog ref=${shown} class="viewer" aria-label="Full view" onClose=${onClose} onKeyDown=${press}>
      <img src=${sourceOf(images[index])} alt=${altOf(request, index)} />
      <div class="actions">
        ${images.length > 1 && html`
          <button type="button" class="quiet" aria-label="Previous picture" onClick=${() => turn(-1)}>‹</button>
          <span aria-live="polite">${index + 1} of ${images.length}</span>
          <button type="button" class="quiet" aria-label="Next picture" onClick=${() => turn(1)}>›</button>
        `}
        <${Links} image=${images[index]} name=${nameOf(request, index)} onRelight=${relight} />
        <button type="button" onClick=${() => dialog.current.close()}>Close</button>
      </div>
    </dialog>
  `;
}
