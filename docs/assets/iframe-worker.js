// Browsers start no workers for pages that are opened from the disk. There the theme's search runs in a
// hidden frame, which is spoken to like a worker; the theme looks for the name IFrameWorker.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #loaded;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const inside = this.#frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...urls) => {
        for (const one of urls) await this.#load(one);
      };
      this.#loaded = this.#load(url);
    }

    postMessage(data) {
      this.#loaded.then(() =>
        this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })),
      );
    }

    #load(url) {
      const script = this.#frame.contentDocument.createElement("script");
      script.src = new URL(url, document.baseURI);
      return new Promise((resolve, reject) => {
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${url}: cannot be loaded`));
        this.#frame.contentDocument.head.append(script);
      });
    }
  };
}
