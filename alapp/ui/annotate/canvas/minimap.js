// A small picture of the whole patch with the part that is seen, while the patch does not fit the stage.

const MINIMAP_PX = 132; // its longer side on the screen
const MINIMAP_MS = 200; // its picture follows changes of the masks so much later, to keep the brush fast

function bindMinimap(page) {
  const map = page.part("minimap");
  const { view } = page;
  const picture = document.createElement("canvas");
  let timer = null;

  const scale = () => MINIMAP_PX / Math.max(view.width, view.height);

  const paint = () => {
    timer = null;
    if (map.hidden) return;
    const context = picture.getContext("2d");
    context.imageSmoothingQuality = "medium";
    context.clearRect(0, 0, picture.width, picture.height);
    context.drawImage(view.image, 0, 0, picture.width, picture.height);
    context.globalAlpha = view.filled ? view.opacity : 0;
    context.drawImage(view.fill, 0, 0, picture.width, picture.height);
    context.globalAlpha = 1;
    frame();
  };

  // The part that is seen stays bright.
  const frame = () => {
    const context = map.getContext("2d");
    const k = (map.width / view.width) / view.scale;
    const { clientWidth: w, clientHeight: h } = view.canvas;
    const seen = [-view.left * k, -view.top * k, w * k, h * k];
    context.drawImage(picture, 0, 0);
    context.fillStyle = "rgba(0,0,0,.5)";
    context.beginPath();
    context.rect(0, 0, map.width, map.height);
    context.rect(...seen);
    context.fill("evenodd");
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1.5 * (view.ratio || 1);
    context.strokeRect(...seen);
  };

  const show = () => {
    const { clientWidth: w, clientHeight: h } = view.canvas;
    const [right, bottom] = [view.left + view.width * view.scale, view.top + view.height * view.scale];
    const whole = view.left > -1 && view.top > -1 && right < w + 1 && bottom < h + 1;
    const was = map.hidden;
    map.hidden = whole || !view.raw;
    if (map.hidden) return;
    const [across, down] = [view.width, view.height].map((size) => Math.max(1, Math.round(size * scale())));
    const ratio = view.ratio || 1;
    const size = [Math.round(across * ratio), Math.round(down * ratio)];
    if (was || map.width !== size[0] || map.height !== size[1]) {
      for (const each of [map, picture]) [each.width, each.height] = size;
      Object.assign(map.style, { width: `${across}px`, height: `${down}px` });
      return paint();
    }
    frame();
  };

  view.drawn.push(() => {
    show();
    showScaleBar(page);
    showRuler(page);
  });
  view.onChange = () => { timer ??= setTimeout(paint, MINIMAP_MS); };

  const go = (event) => {
    const rect = map.getBoundingClientRect();
    view.centre([(event.clientY - rect.top) / scale(), (event.clientX - rect.left) / scale()]);
  };
  map.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    page.stage.focus({ preventScroll: true });
    map.setPointerCapture(event.pointerId);
    go(event);
  });
  map.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
}
