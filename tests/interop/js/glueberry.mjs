// Glueberry's wire in JavaScript: keys, records, frames, protocol ids. Written from the description
// of the protocol, with nothing taken from the Rust side; the cryptography is @noble's.

import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'

export const profiles = {
  v1: {
    handshake: '/glueberry/handshake/1.0.0',
    encode: payload => {
      const frame = new Uint8Array(4 + payload.length)
      new DataView(frame.buffer).setUint32(0, payload.length)
      frame.set(payload, 4)
      return frame
    },
    // Returns [payload, rest], or nothing if the frame is not whole yet.
    decode: bytes => {
      if (bytes.length < 4) return
      const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
      if (bytes.length < 4 + length) return
      return [bytes.subarray(4, 4 + length), bytes.subarray(4 + length)]
    }
  },
  'v1-go': {
    handshake: '/glueberry/stream/handshake/1.0.0',
    encode: payload => {
      const inner = varint(payload.length)
      return concat([varint(inner.length + payload.length), inner, payload])
    },
    decode: bytes => {
      const outer = readVarint(bytes)
      if (outer === undefined) return
      const [length, start] = outer
      if (bytes.length < start + length) return
      const body = bytes.subarray(start, start + length)
      const inner = readVarint(body)
      if (inner === undefined) throw new Error('no inner length')
      const [size, at] = inner
      if (at + size > body.length) throw new Error('inner length exceeds the outer')
      return [body.subarray(at, at + size), bytes.subarray(start + length)]
    }
  }
}

export const streamId = name => `/glueberry/stream/${name}/1.0.0`

// The one key of two identities: seed is the own secret, peer the other's Ed25519 key.
export function sharedKey (seed, peer) {
  const secret = ed25519.utils.toMontgomerySecret(seed)
  const raw = x25519.getSharedSecret(secret, ed25519.utils.toMontgomery(peer))
  return hkdf(sha256, raw, undefined, new TextEncoder().encode('glueberry-v1-stream-key'), 32)
}

export function seal (key, message) {
  const nonce = crypto.getRandomValues(new Uint8Array(12))
  return concat([nonce, chacha20poly1305(key, nonce).encrypt(message)])
}

export function open (key, record) {
  return chacha20poly1305(key, record.subarray(0, 12)).decrypt(record.subarray(12))
}

// Reads frames off a substream.
export class Frames {
  constructor (stream, profile, each, ended = () => {}) {
    this.rest = new Uint8Array()
    stream.addEventListener('message', event => {
      const data = event.data.subarray()
      this.rest = this.rest.length === 0 ? data : concat([this.rest, data])
      for (;;) {
        const frame = profile.decode(this.rest)
        if (frame === undefined) return
        this.rest = frame[1]
        each(frame[0])
      }
    })
    stream.addEventListener('remoteCloseWrite', () => ended())
  }
}

// Writes in pieces that a substream takes, waiting when it is full.
export async function write (stream, bytes) {
  for (let at = 0; at < bytes.length; at += PIECE) {
    if (!stream.send(bytes.subarray(at, at + PIECE))) await stream.onDrain()
  }
}

export function concat (parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function varint (number) {
  const bytes = []
  while (number >= 128) {
    bytes.push((number % 128) | 128)
    number = Math.floor(number / 128)
  }
  bytes.push(number)
  return Uint8Array.from(bytes)
}

function readVarint (bytes) {
  let number = 0
  for (let at = 0; at < Math.min(bytes.length, 5); at++) {
    number += (bytes[at] & 127) * 2 ** (7 * at)
    if (bytes[at] < 128) return [number, at + 1]
  }
  if (bytes.length >= 5) throw new Error('length is too long')
}

const PIECE = 65536
