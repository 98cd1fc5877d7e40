// Search runs in a worker, and a browser starts none for a page opened from a folder. There this
// one stands in for it: a hidden frame that runs the same script.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    onmessage = null;
    onerror = null;

    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      // A worker answers later, never while it is being asked.
      inside.postMessage = (data) => setTimeout(() => this.#dispatch(structuredClone(data)));
      this.ready = new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.onload = () => resolve(inside);
        script.onerror = reject;
        script.src = new URL(address, location.href).href;
        inside.document.body.append(script);
      });
      this.ready.catch((error) => this.onerror?.(error));
    }

    #dispatch(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    postMessage(message) {
      const data = structuredClone(message);
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
