// The channels of an image in the View panel: which are shown, in which colour, from which intensity to which.

const WINDOW_TITLES = ["Everything up to this intensity is black", "Everything from this intensity on is shown at full strength"];

function checkedChannel(raw) {
  const channel = {};
  if (typeof raw.shown === "boolean") channel.shown = raw.shown;
  if (typeof raw.colour === "string" && /^#[0-9a-f]{6}$/.test(raw.colour)) channel.colour = raw.colour;
  const { window: limits } = raw;
  const sound = Array.isArray(limits) && limits.length === 2 && limits.every((each) => Number.isFinite(each) && Math.abs(each) < 1e30);
  if (sound && limits[0] < limits[1]) channel.window = [limits[0], limits[1]];
  return channel;
}

// Change a channel; undefined takes a setting back.
function setChannel(page, index, change) {
  const channel = { ...page.look.channels[index], ...change };
  page.look.channels[index] = checkedChannel(channel);
  Object.assign(page.channels[index], checkedChannel(change));
  page.keepLook();
  showChannels(page);
  page.reloadPicture();
}

// Controls are made anew only for other channels: a slider must not go away while it is dragged.
function showChannels(page) {
  const box = page.part("channels");
  const { channels } = page;
  if (box.childElementCount !== channels.length) {
    box.replaceChildren(...channels.map((_, index) => channelBox(page, index, channels.length > 1)));
  }
  channels.forEach((channel, index) => showChannel(page, box.children[index], channel, page.look.channels[index]));
}

function channelBox(page, index, several) {
  const box = make("section", "ann-channel");
  box.dataset.channel = index;
  const name = several ? `Channel ${index + 1}` : "Intensities";
  const head = make("header");
  if (several) {
    const label = make("label", "ann-check");
    const check = control("checkbox", "shown", `Show ${name}`, () => setChannel(page, index, { shown: check.checked }));
    label.append(check, name);
    const colour = control("color", "colour", `Colour of ${name}`, () => setChannel(page, index, { colour: colour.value }));
    head.append(label, colour);
  } else {
    head.append(make("strong", "", name));
  }
  const auto = make("button", "ann-button ann-auto", "Automatic");
  auto.type = "button";
  auto.title = "From the darkest to the brightest half percent of the whole image";
  auto.addEventListener("click", () => {
    page.channels[index].window = page.channels[index].auto;
    setChannel(page, index, { window: undefined });
  });
  head.append(auto);
  box.append(head, ...[0, 1].map((end) => windowRow(page, index, end, name)));
  return box;
}

function windowRow(page, index, end, name) {
  const row = make("label", "ann-slide");
  row.title = WINDOW_TITLES[end];
  const words = ["Black", "White"][end];
  const change = (input) => setWindow(page, index, end, input.value === "" ? NaN : Number(input.value));
  const slider = control("range", `slide-${end}`, `${words}, ${name}`, () => change(slider));
  const number = control("number", `window-${end}`, `${words}, ${name}, intensity`, () => {
    change(number);
    number.value = intensityNumber(page.channels[index].window[end]);
  }, "change");
  number.step = "any";
  row.append(make("span", "", words), slider, number);
  return row;
}

function control(type, field, label, run, event = "input") {
  const input = make("input");
  Object.assign(input, { type });
  input.dataset.field = field;
  input.setAttribute("aria-label", label);
  input.addEventListener(event, run);
  return input;
}

// Black stays below white: the slider stops there.
function setWindow(page, index, end, value) {
  const { window: now } = page.channels[index];
  const next = end ? [now[0], value] : [value, now[1]];
  if (!Number.isFinite(value) || Math.abs(value) >= 1e30 || next[0] >= next[1]) {
    if (Number.isFinite(value)) page.say("Black must be a smaller intensity than white.");
    return showChannels(page);
  }
  setChannel(page, index, { window: next });
}

function showChannel(page, box, channel, chosen) {
  const field = (name) => box.querySelector(`[data-field="${name}"]`);
  const [low, high] = [Math.min(channel.range[0], channel.window[0]), Math.max(channel.range[1], channel.window[1])];
  const counts = [...channel.range, ...channel.window].every(Number.isInteger) && high - low > 20;
  for (const end of [0, 1]) {
    const [slider, number] = [field(`slide-${end}`), field(`window-${end}`)];
    // While it is dragged, a slider keeps its ends.
    if (document.activeElement !== slider) Object.assign(slider, { min: low, max: high, step: counts ? 1 : (high - low) / 500 || 1 });
    slider.value = channel.window[end];
    // Nor is a number taken away that is being typed.
    if (document.activeElement !== number) number.value = intensityNumber(channel.window[end]);
  }
  if (field("shown")) field("shown").checked = channel.shown;
  if (field("colour")) field("colour").value = channel.colour;
  box.querySelector(".ann-auto").disabled = !chosen?.window;
}
