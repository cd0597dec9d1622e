// Access units to pictures with WebCodecs. Annex-B without a description: parameter sets stand before every keyframe.

import { micros } from "./clock.js";
import type { Unit } from "./reorder.js";
import { Codec, type VideoHeader } from "./wire.js";

/** What is known of a picture on its way to the screen; times in microseconds of the viewer's clock. */
export interface Picture { header: VideoHeader; received: number; decoded: number; bytes: number }

export interface DecoderEvents {
  picture(frame: VideoFrame, p: Picture): void;
  /** The decoder gave up; only a keyframe helps. */
  failed(cause: string): void;
}

/** Units waiting inside the decoder beyond which only a restart at a keyframe catches up: a third of a second at 60 fps. */
export const MAX_BACKLOG = 20;

/** The codec string of an access unit, from its own parameter sets where that is simple. */
export function codecString(codec: number, data: Uint8Array): string {
  if (codec === Codec.hevc) return "hev1.1.6.L153.B0";
  if (codec === Codec.av1) return "av01.0.12M.08";
  const at = findSPS(data);
  if (at < 0) return "avc1.42E01F";
  const hex = (v: number) => v.toString(16).padStart(2, "0").toUpperCase();
  return `avc1.${hex(data[at]!)}${hex(data[at + 1]!)}${hex(data[at + 2]!)}`;
}

/** The index of profile_idc in the first sequence parameter set of an Annex-B unit, or -1. */
function findSPS(b: Uint8Array): number {
  for (let i = 0; i + 6 < b.length; i++) {
    if (b[i] === 0 && b[i + 1] === 0 && b[i + 2] === 1 && (b[i + 3]! & 0x1f) === 7) return i + 4;
  }
  return -1;
}

/** The codecs this browser decodes, best first; H.264 comes first because every host has it and it is the fastest here. */
export async function decodable(): Promise<number[]> {
  const candidates: [number, string][] = [[Codec.h264, "avc1.42E01F"], [Codec.hevc, "hev1.1.6.L153.B0"], [Codec.av1, "av01.0.12M.08"]];
  const out: number[] = [];
  for (const [codec, name] of candidates) {
    const s = await VideoDecoder.isConfigSupported({ codec: name, optimizeForLatency: true }).catch(() => null);
    if (s?.supported) out.push(codec);
  }
  return out;
}

export class Decoder {
  private decoder: VideoDecoder | null = null;
  private configured = "";
  private pending = new Map<number, Picture>();
  private counter = 0;

  constructor(private readonly events: DecoderEvents) {}

  /** Units inside the decoder. */
  get backlog(): number { return this.decoder?.decodeQueueSize ?? 0; }

  decode(u: Unit): void {
    if (u.header.keyframe) this.configure(u);
    if (!this.decoder || this.decoder.state !== "configured") return this.events.failed("no keyframe yet");
    // The timestamp is only our key for finding the unit again: capture times may repeat.
    const timestamp = ++this.counter;
    this.pending.set(timestamp, { header: u.header, received: u.received, decoded: 0, bytes: u.data.length });
    try {
      this.decoder.decode(new EncodedVideoChunk({ type: u.header.keyframe ? "key" : "delta", timestamp, data: u.data }));
    } catch (e) {
      this.fail(e);
    }
  }

  /** Forgets everything; the next unit must be a keyframe. */
  reset(): void {
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
    this.decoder = null;
    this.configured = "";
    this.pending.clear();
  }

  private configure(u: Unit): void {
    const codec = codecString(u.header.codec, u.data);
    const key = `${codec} ${u.header.width}x${u.header.height}`;
    if (key === this.configured && this.decoder?.state === "configured") return;
    this.reset();
    const decoder: VideoDecoder = new VideoDecoder({
      output: (frame) => { if (this.decoder === decoder) this.output(frame); else frame.close(); },
      error: (e) => { if (this.decoder === decoder) this.fail(e); },
    });
    this.decoder = decoder;
    try {
      decoder.configure({ codec, codedWidth: u.header.width, codedHeight: u.header.height, optimizeForLatency: true });
      this.configured = key;
    } catch (e) {
      this.fail(e);
    }
  }

  private output(frame: VideoFrame): void {
    const p = this.pending.get(frame.timestamp);
    this.pending.delete(frame.timestamp);
    if (!p) return frame.close();
    p.decoded = micros();
    this.events.picture(frame, p);
  }

  private fail(e: unknown): void {
    this.reset();
    this.events.failed(e instanceof Error ? e.message : String(e));
  }
}
