/** What computing and sending take of a device's battery. */
export interface EnergyModel {
  /** Watts while a span or an encoder runs, above idle. */
  computeWatts: number;
  /** Watts while the radio sends, above idle, whatever the rate. */
  radioWatts: number;
  /** Joules for every byte sent. */
  joulesPerByte: number;
  /** Watts of waiting for an answer, above a device that sleeps. */
  idleWatts: number;
}

/** A phone on LTE, 3G or Wi-Fi; a single-board computer on Wi-Fi. */
export type EnergyPreset = 'phoneLte' | 'phone3g' | 'phoneWifi' | 'boardWifi';

// Radio: the power models fitted in Huang et al., "A close examination of performance and power characteristics of 4G
// LTE networks" (MobiSys 2012), table 4: uplink 438.39 mW per Mbit/s over 1288.04 mW for LTE, 868.98 over 817.88 for
// 3G, 283.17 over 132.86 for Wi-Fi. Computing: a phone's large core draws some 2 W under load; a Raspberry Pi 4 some
// 6.4 W with all cores busy and 2.7 W idle (the foundation's own figures).
const perByte = (milliwattsPerMbps: number): number => (milliwattsPerMbps * 8) / 1e9;

/** Devices to start from, by name. */
export const energyPresets: Readonly<Record<EnergyPreset, EnergyModel>> = {
  phoneLte: { computeWatts: 2, radioWatts: 1.288, joulesPerByte: perByte(438.39), idleWatts: 0.03 },
  phone3g: { computeWatts: 2, radioWatts: 0.818, joulesPerByte: perByte(868.98), idleWatts: 0.03 },
  phoneWifi: { computeWatts: 2, radioWatts: 0.133, joulesPerByte: perByte(283.17), idleWatts: 0.03 },
  boardWifi: { computeWatts: 3.7, radioWatts: 0.133, joulesPerByte: perByte(283.17), idleWatts: 0.03 },
};

/**
 * Joules that one frame takes above a device that does nothing.
 *
 * @param spent Milliseconds of computing, of sending and of waiting for the answer, and bytes sent.
 *
 * @example
 * ```ts
 * joulesOf(energyPresets.phoneLte, { computeMs: 10, sendMs: 20, waitMs: 60, numBytes: 5000 }); // 0.065
 * ```
 */
export function joulesOf(
  model: EnergyModel,
  spent: { computeMs: number; sendMs: number; waitMs: number; numBytes: number },
): number {
  const { computeMs, sendMs, waitMs, numBytes } = spent;
  const milliwattSeconds =
    model.computeWatts * computeMs + model.radioWatts * sendMs + model.idleWatts * waitMs;
  return milliwattSeconds / 1000 + model.joulesPerByte * numBytes;
}
