/**
 * Listeners by the name of what they listen for.
 *
 * @template {Record<string, any>} Events what a listener of each name gets
 */
export class Emitter<Events extends Record<string, any>> {
    /** @type {Map<keyof Events, Set<(event: any) => void>>} */
    listeners: Map<keyof Events, Set<(event: any) => void>>;
    /**
     * Calls `listener` from now on.
     *
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {(event: Events[Name]) => void} listener
     * @returns {() => void} stops it
     */
    on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void;
    /**
     * Returns a promise of the next event.
     *
     * @template {keyof Events} Name
     * @param {Name} name
     * @returns {Promise<Events[Name]>}
     */
    once<Name extends keyof Events>(name: Name): Promise<Events[Name]>;
    /**
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {Events[Name]} event
     */
    emit<Name extends keyof Events>(name: Name, event: Events[Name]): void;
}
