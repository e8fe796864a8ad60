// Slices as decoded pictures: those seen last, and those that are likely to be seen next.

const PICTURE_BYTES = 192 * 2 ** 20;

class Pictures {
  // `ask(message)` gives the answer of load_slice.
  constructor(ask, limit = PICTURE_BYTES) {
    this.ask = ask;
    this.limit = limit;
    this.bytes = 0;
    this.known = new Map(); // oldest use first
    this.coming = new Map();
    this.settings = {}; // how a slice becomes a picture: sent along, and part of a picture's name
  }

  key(patch, z) { return `${patch}/${z}/${JSON.stringify(this.settings)}`; }

  get(patch, z) {
    const key = this.key(patch, z);
    const found = this.known.get(key);
    if (found) {
      this.known.delete(key);
      this.known.set(key, found);
    }
    return found;
  }

  // {picture, answer} once it is there; an answer with an error has no picture.
  load(patch, z) {
    const key = this.key(patch, z);
    if (this.known.has(key)) return Promise.resolve(this.get(patch, z));
    if (!this.coming.has(key)) {
      this.coming.set(key, this.fetch(key, { ...this.settings, patch, z }).finally(() => this.coming.delete(key)));
    }
    return this.coming.get(key);
  }

  async fetch(key, message) {
    const { png, ...answer } = await this.ask(message);
    if (!png) return { answer };
    const picture = await decoded(png).catch(() => null);
    if (!picture) return { answer: { error: "The browser cannot read it. If it stays so, reload the page." } };
    const found = { picture, answer };
    this.known.set(key, found);
    this.bytes += sizeOf(picture);
    for (const [old, { picture: dropped }] of this.known) {
      if (this.bytes <= this.limit || old === key) break;
      this.known.delete(old);
      this.bytes -= sizeOf(dropped);
    }
    return found;
  }
}

async function decoded(png) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${png}`;
  await picture.decode();
  return picture;
}

function sizeOf(picture) { return 4 * picture.width * picture.height; }
